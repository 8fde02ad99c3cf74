"""Class-aware image-text alignment.

Two images of one class are both right answers to its words, never negatives of one another.
(Plain InfoNCE over 64 images of 16 classes cannot fall below ln 4.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.errors import DataError
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.temperature import Scale


class SoftmaxAlignment(Loss):
    """CLIP's symmetric loss (Radford et al. 2021, figure 3) with several positives a row.

    For a right pair p, `-log(e^{s_p} / (e^{s_p} + sum over wrong n of e^{s_n}))`: the other right
    answers are left out of the sum, so the loss can reach 0. Averaged over the right answers of each
    image, then images; of each text, then texts; then both directions.

    Args:
        temperature: at the start.
        learned: train the temperature.
    """

    needs_text = True

    def __init__(self, *, temperature: float = 0.07, learned: bool = True) -> None:
        super().__init__()
        self.scale = Scale(temperature, learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        cosine, right = _cosine_and_right(batch)
        logits = cosine * self.scale()
        return (_one_way(logits, right) + _one_way(logits.T, right.T)) / 2


class SigmoidAlignment(Loss):
    """SigLIP's loss (Zhai et al. 2023, eq. 1): every image-text pair is a yes-or-no question.

    Class-aware without change: each pair of one class is a yes. Summed over texts, averaged over
    images.

    Args:
        temperature: at the start; the paper's 1/10.
        bias: at the start; the paper's -10, since nearly all pairs are a no.
        learned: train both.
    """

    needs_text = True

    def __init__(self, *, temperature: float = 0.1, bias: float = -10.0, learned: bool = True) -> None:
        super().__init__()
        self.scale = Scale(temperature, learned)
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        cosine, right = _cosine_and_right(batch)
        sign = right.to(cosine.dtype) * 2 - 1
        return -F.logsigmoid(sign * (cosine * self.scale() + self.bias)).sum() / max(len(cosine), 1)


def _cosine_and_right(batch: EncodedBatch) -> tuple[Tensor, Tensor]:
    """Cosines `[B, T]` of images and texts, and which are of one class, bool `[B, T]`."""
    if batch.words is None or batch.text_labels is None:
        raise DataError("an alignment loss needs words, and this batch has none")
    image, words = F.normalize(batch.image.embedding, dim=1), F.normalize(batch.words, dim=1)
    return image @ words.T, batch.labels[:, None] == batch.text_labels[None, :]


def _one_way(logits: Tensor, right: Tensor) -> Tensor:
    """Mean over rows with a right answer of the mean over their right answers."""
    wrong = logits.masked_fill(right, -math.inf).logsumexp(dim=1, keepdim=True)
    # A row without wrong answers has nothing to tell apart: softplus(-inf) is 0.
    loss = F.softplus(wrong - logits) * right
    count = right.sum(1)
    per_row = loss.sum(1) / count.clamp(min=1)
    return per_row.sum() / (count > 0).sum().clamp(min=1)
