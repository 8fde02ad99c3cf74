"""Class-aware image-text alignment by sigmoid, after SigLIP (Zhai et al. 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.logit_scale import LogitScale


class AlignmentSigmoidLoss(Loss):
    """SigLIP's loss (Zhai et al. 2023, eq. 1): each image-text pair is classified as matching or not.

    Every pair of one class is a match. Summed over texts, averaged over images.

    Args:
        temperature: at the start; 1/10 in the paper.
        bias: at the start; -10 in the paper, since nearly all pairs do not match.
        learned: whether both are trained.
    """

    needs_text = True

    def __init__(self, *, temperature: float = 0.1, bias: float = -10.0, learned: bool = True) -> None:
        super().__init__()
        self.scale = LogitScale(temperature, learned)
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        cosine, positive = batch.text_cosines()
        sign = positive.to(cosine.dtype) * 2 - 1
        return -F.logsigmoid(sign * (cosine * self.scale() + self.bias)).sum() / max(len(cosine), 1)
