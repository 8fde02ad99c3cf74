"""CoOp (Zhou, Yang, Loy and Liu 2022): the words in front of a class name are learned, and nothing else."""

from __future__ import annotations

import math
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.core.errors import DataError, ModelError
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_told_apart
from vlfew.models.dual_stream import DualStream
from vlfew.models.fine_tuning import Texts, Tuned

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""Those of the authors' program."""


def coop(
    model: DualStream,
    images: Tensor,
    labels: Tensor,
    class_texts: Texts,
    *,
    seed: int = 0,
    context: str = "a photo of a",
    steps: int = 200,
    lr: float = 2e-3,
    scale: float | None = None,
) -> Tuned:
    """Learns one context for all classes by the cross entropy of the support (equations 2 and 3).

    Args:
        model: with a text stream; it is left as it is.
        images: uint8 `[S, C, H, W]` of the support.
        labels: `[S]` in 0 to N-1.
        class_texts: names of each of N classes; the mean of their embeddings stands for the class.
        seed: takes no part, since every step sees the whole support and the context begins as words.
        context: what it begins as.
        steps: of gradient descent; the learning rate falls in half a cosine.
        lr: learning rate at the first step.
        scale: of the cosines; CLIP's is 100. Fitted on the support where not given (`fit_logit_scale`).

    Raises:
        ModelError: a model without words, or a context that its encoder does not see as words in front.
        DataError: classes without images or words, or with words that the encoder cannot tell apart.
    """
    encoder = text_encoder_of(model)
    check_support(encoder, labels, class_texts)
    first, vectors = _start(encoder, context)
    seen = F.normalize(encoded_support(model, images), dim=1).clone().to(model.device)
    labels = labels.to(model.device)
    learned = vectors.clone().requires_grad_()
    model.eval()

    def say(texts: Texts) -> Tensor:
        with torch.no_grad():
            return _words(
                model, encoder, _tokens(model, encoder, context, texts), first, learned, texts
            ).cpu()

    if scale is None:
        cosines = seen @ F.normalize(say(class_texts).to(model.device), dim=1).T
        scale = float(fit_logit_scale(cosines, labels))
    tokens = _tokens(model, encoder, context, class_texts)
    optimizer = torch.optim.SGD([learned], lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        words = F.normalize(_words(model, encoder, tokens, first, learned, class_texts), dim=1)
        loss = F.cross_entropy(scale * seen @ words.T, labels)
        # Of the context alone: the towers gather no gradient.
        (learned.grad,) = torch.autograd.grad(loss, [learned])
        optimizer.step()
    return Tuned(model, say, scale)


def _tokens(model: DualStream, encoder: TextEncoder, context: str, class_texts: Texts) -> dict[str, Tensor]:
    tokens = encoder.tokenize([f"{context} {text}" for texts in class_texts for text in texts])
    return {name: value.to(model.device) for name, value in tokens.items()}


def text_encoder_of(model: DualStream) -> TextEncoder:
    """The text encoder of a model that has one.

    Raises:
        ModelError: it was trained without words.
    """
    if model.text_encoder is None:
        raise ModelError("this model has no text stream, and learning from a support by words needs one")
    return model.text_encoder


def check_support(encoder: TextEncoder, labels: Tensor, class_texts: Texts) -> None:
    """Refuses a support from which a class cannot be learned.

    Raises:
        DataError: classes without images or words, or with words that the encoder cannot tell apart.
    """
    for number, texts in enumerate(class_texts):
        if not texts or not bool((labels == number).any()):
            raise DataError(f"class {number} of the support has no {'images' if texts else 'words'}")
    check_told_apart(encoder, [texts[0] for texts in class_texts], class_texts)


def encoded_support(model: DualStream, images: Tensor) -> Tensor:
    """`[S, D]` of the support, some images at a time."""
    return torch.cat([model.encode_images(part).embedding for part in images.split(256)])


def mean_of_texts(vectors: Tensor, class_texts: Texts) -> Tensor:
    """The vectors `[T, D]` of all texts to those of the N classes that they are of, `[N, D]`."""
    return torch.stack([part.mean(0) for part in vectors.split([len(texts) for texts in class_texts])])


def _words(
    model: DualStream,
    encoder: TextEncoder,
    tokens: dict[str, Tensor],
    first: int,
    context: Tensor,
    class_texts: Texts,
) -> Tensor:
    """Of the classes, `[N, D]`, under the context `[M, W]`."""
    encoded = encoder.with_context(tokens, first, context).embedding
    return mean_of_texts(model.forward_words(encoded).float(), class_texts)


def _start(encoder: TextEncoder, context: str) -> tuple[int, Tensor]:
    """Where the context stands among the tokens, and the vectors `[M, W]` that it begins as.

    Both are found out from two words: what their tokens share is what stands before them.
    """
    words = ("dog", "cat")
    before = _shared(*encoder.token_ids(words))
    rows = encoder.token_ids([f"{context} {word}" for word in words])
    shared = _shared(*rows)
    if shared <= before:
        raise ModelError(f"the text encoder sees no words in the context {context!r}; choose another one")
    layer = encoder.token_embedding()
    ids = torch.tensor(rows[0][before:shared], device=layer.weight.device)
    return before, layer.weight.detach()[ids]


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many first tokens are equal."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
