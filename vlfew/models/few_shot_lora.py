"""LoRA in both towers, learned from a support (CLIP-LoRA: Zanella and Ben Ayed 2024)."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.core.config import Lora
from vlfew.core.random import generator_at, seed_at
from vlfew.encoders.lora import add_lora, merged
from vlfew.models.coop import check_support, encoded_support, mean_of_texts, text_encoder_of
from vlfew.models.dual_stream import DualStream
from vlfew.models.fine_tuning import Texts, Tuned


def few_shot_lora(
    model: DualStream,
    images: Tensor,
    labels: Tensor,
    class_texts: Texts,
    *,
    seed: int = 0,
    rank: int = 2,
    alpha: float = math.sqrt(2),
    dropout: float = 0.25,
    layers: str = "*",
    prompt: str = "a photo of a {}",
    steps: int = 200,
    batch: int = 32,
    lr: float = 2e-4,
    scale: float | None = None,
) -> Tuned:
    """Learns LoRA by the cross entropy of the support, by AdamW, and merges it into a copy of the model.

    Args:
        model: with a text stream; it is left as it is.
        images: uint8 `[S, C, H, W]` of the support.
        labels: `[S]` in 0 to N-1.
        class_texts: names of each of N classes; the mean of their embeddings stands for the class.
        seed: of what LoRA begins as, of the batches and of dropout.
        rank, alpha, dropout, layers: see `vlfew.core.config.Lora`, for both towers. What is learned counts `alpha / rank`;
            the authors' program has `1 / sqrt(rank)`, which the defaults make of a rank of 2.
        prompt: around a name, in the place of `{}`.
        steps: of the optimizer; the learning rate falls in half a cosine.
        batch: images in a step, of the support or as many as it has.
        lr: learning rate at the first step.
        scale: of the cosines; CLIP's is 100. Fitted on the support where not given (`fit_logit_scale`).

    Raises:
        ModelError: a model without words, layers that LoRA does not fit, or no peft.
        DataError: classes without images or words, or with words that the encoder cannot tell apart.
    """
    check_support(text_encoder_of(model), labels, class_texts)

    def prompts(texts: Texts) -> list[str]:
        return [prompt.replace("{}", text) for of_class in texts for text in of_class]

    if scale is None:
        words = F.normalize(mean_of_texts(model.encode_texts(prompts(class_texts)), class_texts), dim=1)
        seen = F.normalize(encoded_support(model, images), dim=1)
        scale = float(fit_logit_scale(seen @ words.T, labels))
    tuned = deepcopy(model).eval().requires_grad_(False)
    encoder = text_encoder_of(tuned)
    settings = Lora(rank=rank, alpha=alpha, dropout=dropout, layers=layers)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed_at(seed, "lora"))
        parts = [*add_lora(tuned.backbone, settings, "image.lora"), *add_lora(encoder, settings, "text.lora")]
        learned = [p for p in tuned.to(model.device).parameters() if p.requires_grad]
        tokens = {n: value.to(model.device) for n, value in encoder.tokenize(prompts(class_texts)).items()}
        optimizer = torch.optim.AdamW(learned, lr)
        for part in parts:
            part.train()
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            drawn = generator_at(seed, "lora batch", step).permutation(len(labels))[:batch]
            index = torch.from_numpy(drawn)
            torch.manual_seed(seed_at(seed, "lora dropout", step))
            seen = tuned.forward_views(images[index].to(model.device)).embedding.float()
            words = mean_of_texts(tuned.forward_tokens(tokens).float(), class_texts)
            cosines = F.normalize(seen, dim=1) @ F.normalize(words, dim=1).T
            loss = F.cross_entropy(scale * cosines, labels[index].to(model.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    plain: DualStream = merged(tuned).eval()
    plain._kept.clear()  # what the encoder said before it was changed
    plain.fingerprint = None
    return Tuned(plain, lambda texts: mean_of_texts(plain.encode_texts(prompts(texts)), texts), scale)
