"""LoRA in both encoders, learned from a support set (CLIP-LoRA: Zanella and Ben Ayed 2024)."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.core.config import LoraConfig
from vlfew.core.random import generator_at, seed_at
from vlfew.encoders.lora import add_lora, merged
from vlfew.models.dual_stream import DualStream
from vlfew.models.fine_tuning import ClassTexts, FineTunedModel, check_support, class_means, encode_support


def few_shot_lora(
    model: DualStream,
    images: Tensor,
    labels: Tensor,
    class_texts: ClassTexts,
    *,
    seed: int = 0,
    rank: int = 2,
    alpha: float = math.sqrt(2),
    dropout: float = 0.25,
    layers: str = "*",
    prompt: str = "a photo of a {}",
    steps: int = 200,
    batch_size: int = 32,
    lr: float = 2e-4,
    scale: float | None = None,
) -> FineTunedModel:
    """Learns LoRA adapters by the cross entropy of the support set, and merges them into a copy of the model.

    Args:
        model: has a text stream; it is not changed.
        images: uint8 `[S, C, H, W]` of the support set.
        labels: `[S]` in 0 to N-1.
        class_texts: names of each of N classes; a class is represented by the mean of their embeddings.
        seed: of the adapters' initial weights, the batches and dropout.
        rank: of the two low-rank factors in every adapted layer of both encoders.
        dropout: probability on the adapters' input.
        layers: a glob over the names of layers in the encoders' blocks, such as `*_proj`; all of them by default.
        alpha: the update is scaled by `alpha / rank`; the authors' code uses `1 / sqrt(rank)`, as the default does.
        prompt: text with `{}` for the class name.
        steps: of AdamW, with a cosine schedule to 0.
        batch_size: images in a step; all of a smaller support set.
        lr: initial learning rate.
        scale: factor of the cosines; CLIP's is 100. Fitted to the support set where not given (`fit_logit_scale`).

    Raises:
        ModelError: a model without a text stream, layers that match nothing, or no peft.
        DataError: a class without images or texts, or classes whose texts have the same tokens.
    """
    check_support(model, labels, class_texts)

    def prompts(texts: ClassTexts) -> list[str]:
        return [prompt.replace("{}", text) for own in texts for text in own]

    def embed_classes(model: DualStream, texts: ClassTexts) -> Tensor:
        return class_means(model.encode_text(prompts(texts)), texts).cpu()

    if scale is None:
        text = F.normalize(embed_classes(model, class_texts), dim=1)
        image = F.normalize(encode_support(model, images), dim=1)
        scale = float(fit_logit_scale(image @ text.T, labels))
    tuned = deepcopy(model).eval().requires_grad_(False)
    settings = LoraConfig(rank=rank, alpha=alpha, dropout=dropout, layers=layers)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed_at(seed, "lora"))
        adapted = add_lora(tuned.backbone, settings, "image.lora")
        adapted += add_lora(tuned.require_text_encoder(), settings, "text.lora")
        tuned = tuned.to(model.device)
        optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr)
        tokens = tuned.tokenize(prompts(class_texts))
        for layer in adapted:
            layer.train()
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            order = generator_at(seed, "lora batch", step).permutation(len(labels))
            index = torch.from_numpy(order[:batch_size])
            torch.manual_seed(seed_at(seed, "lora dropout", step))
            image = tuned.encode_pixels(images[index].to(model.device)).embedding.float()
            text = class_means(tuned.encode_tokens(tokens).float(), class_texts)
            cosines = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
            loss = F.cross_entropy(scale * cosines, labels[index].to(model.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    plain: DualStream = merged(tuned).eval()
    plain.text_cache.clear()
    plain.fingerprint = None
    return FineTunedModel(plain, lambda texts: embed_classes(plain, texts), scale)
