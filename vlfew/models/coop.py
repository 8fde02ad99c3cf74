"""CoOp (Zhou, Yang, Loy and Liu 2022): only the prompt's context in front of the class name is learned."""

from __future__ import annotations

import math
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.core.errors import ModelError
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.dual_stream import DualStream
from vlfew.models.fine_tuning import ClassTexts, FineTunedModel, check_support, class_means, encode_support

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""Those of the authors' code."""


def coop(
    model: DualStream,
    images: Tensor,
    labels: Tensor,
    class_texts: ClassTexts,
    *,
    seed: int = 0,
    context: str = "a photo of a",
    steps: int = 200,
    lr: float = 2e-3,
    scale: float | None = None,
) -> FineTunedModel:
    """Learns one context for all classes, by the cross entropy of the support set (equations 2 and 3).

    Args:
        model: has a text stream; it is not changed.
        images: uint8 `[S, C, H, W]` of the support set.
        labels: `[S]` in 0 to N-1.
        class_texts: names of each of N classes; a class is represented by the mean of their embeddings.
        seed: has no effect, since every step uses the whole support set and the context starts as a text.
        context: its initial text.
        steps: of gradient descent, with a cosine schedule to 0.
        lr: initial learning rate.
        scale: factor of the cosines; CLIP's is 100. Fitted to the support set where not given (`fit_logit_scale`).

    Raises:
        ModelError: a model without a text stream, or a context that its tokenizer does not put before the name.
        DataError: a class without images or texts, or classes whose texts have the same tokens.
    """
    encoder = check_support(model, labels, class_texts)
    first, initial = _initial_context(encoder, context)
    image = F.normalize(encode_support(model, images), dim=1).to(model.device)
    labels = labels.to(model.device)
    learned = initial.clone().requires_grad_()
    model.eval()

    def tokenize(texts: ClassTexts) -> dict[str, Tensor]:
        tokens = encoder.tokenize([f"{context} {text}" for own in texts for text in own])
        return {name: value.to(model.device) for name, value in tokens.items()}

    def embed(tokens: dict[str, Tensor], texts: ClassTexts) -> Tensor:
        encoded = encoder.with_context(tokens, first, learned).embedding
        return class_means(model.project_text(encoded).float(), texts)

    @torch.no_grad()
    def embed_classes(texts: ClassTexts) -> Tensor:
        return embed(tokenize(texts), texts).cpu()

    if scale is None:
        cosines = image @ F.normalize(embed_classes(class_texts).to(model.device), dim=1).T
        scale = float(fit_logit_scale(cosines, labels))
    tokens = tokenize(class_texts)
    optimizer = torch.optim.SGD([learned], lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        text = F.normalize(embed(tokens, class_texts), dim=1)
        loss = F.cross_entropy(scale * image @ text.T, labels)
        # Of the context alone: the encoders accumulate no gradient.
        (learned.grad,) = torch.autograd.grad(loss, [learned])
        optimizer.step()
    return FineTunedModel(model, embed_classes, scale)


def _initial_context(encoder: TextEncoder, context: str) -> tuple[int, Tensor]:
    """The position of the context among the tokens, and its initial vectors `[M, W]`.

    Found from two texts: the tokens that they share are those before the point where they differ.
    """
    names = ("dog", "cat")
    start = _shared_prefix(*encoder.token_ids(names))
    rows = encoder.token_ids([f"{context} {name}" for name in names])
    end = _shared_prefix(*rows)
    if end <= start:
        raise ModelError(f"the text encoder sees no tokens in the context {context!r}; choose another one")
    layer = encoder.token_embedding()
    ids = torch.tensor(rows[0][start:end], device=layer.weight.device)
    return start, layer.weight.detach()[ids]


def _shared_prefix(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The number of equal first tokens."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
