"""Class-aware image-text alignment by softmax, after CLIP (Radford et al. 2021)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.logit_scale import LogitScale


class AlignmentSoftmaxLoss(Loss):
    """CLIP's symmetric loss (Radford et al. 2021, figure 3) with several positives for an image or text.

    Two images of one class are both positives of its texts, never negatives of each other. (Plain InfoNCE over 64
    images of 16 classes cannot fall below ln 4.) For a positive p it is
    `-log(e^{s_p} / (e^{s_p} + sum over negatives n of e^{s_n}))`: other positives are not in the sum, so that the loss
    can reach 0. Averaged over the positives of each image, then over images; likewise for texts; then over both.

    Args:
        temperature: at the start.
        learned: whether the temperature is trained.
    """

    needs_text = True

    def __init__(self, *, temperature: float = 0.07, learned: bool = True) -> None:
        super().__init__()
        self.scale = LogitScale(temperature, learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        cosine, positive = batch.text_cosines()
        logits = cosine * self.scale()
        return (_one_direction(logits, positive) + _one_direction(logits.T, positive.T)) / 2


def _one_direction(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over the rows of `[B, T]` that have a positive, of the mean over their positives."""
    negatives = logits.masked_fill(positive, -math.inf).logsumexp(dim=1, keepdim=True)
    # A row without negatives has no loss: softplus(-inf) is 0.
    loss = F.softplus(negatives - logits) * positive
    count = positive.sum(1)
    per_row = loss.sum(1) / count.clamp(min=1)
    return per_row.sum() / (count > 0).sum().clamp(min=1)
