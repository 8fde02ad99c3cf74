"""Supervised contrastive loss (Khosla et al. 2020)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.temperature import Scale


class SupervisedContrastive(Loss):
    """Eq. 2 (L_out): for each image, minus the mean log softmax of the images of its class.

    The softmax of image i runs over all others of the batch, at cosine / temperature. Images
    alone in their class are left out; a batch of only such gives 0.

    Args:
        temperature: of the softmax.
        learned: train the temperature.
    """

    def __init__(self, *, temperature: float = 0.1, learned: bool = False) -> None:
        super().__init__()
        self.scale = Scale(temperature, learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = F.normalize(batch.image.embedding, dim=1)
        logits = (x @ x.T) * self.scale()
        positive = batch.same_class.clone().fill_diagonal_(False)
        # Not -inf: 0 * -inf in the sum below would be NaN.
        logits = logits.masked_fill(_diagonal(positive), -1e9)
        log_p = logits.log_softmax(dim=1)
        count = positive.sum(1)
        per_image = -(log_p * positive).sum(1) / count.clamp(min=1)
        return per_image.sum() / (count > 0).sum().clamp(min=1)


def _diagonal(like: Tensor) -> Tensor:
    """`[B, B]` bool, True on the diagonal."""
    return like.new_zeros(like.shape).fill_diagonal_(True)
