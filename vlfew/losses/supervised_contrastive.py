"""Supervised contrastive loss (Khosla et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.logit_scale import LogitScale


class SupervisedContrastiveLoss(Loss):
    """For each image, minus the mean log softmax of the images of its class (Khosla et al. 2020, eq. 2, L_out).

    The softmax of an image runs over all others of the batch, at cosine / temperature. Images that are alone in their
    class are left out; a batch of only such images gives 0.

    Args:
        temperature: of the softmax.
        learned: whether the temperature is trained.
    """

    def __init__(self, *, temperature: float = 0.1, learned: bool = False) -> None:
        super().__init__()
        self.scale = LogitScale(temperature, learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = F.normalize(batch.image.embedding, dim=1)
        logits = (x @ x.T) * self.scale()
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        positive = batch.same_class & ~itself
        # Not -inf: 0 * -inf in the sum below would be NaN.
        log_p = logits.masked_fill(itself, -1e9).log_softmax(dim=1)
        count = positive.sum(1)
        per_image = -(log_p * positive).sum(1) / count.clamp(min=1)
        return per_image.sum() / (count > 0).sum().clamp(min=1)
