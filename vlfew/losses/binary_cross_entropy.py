"""Binary cross entropy of pair similarities (Koch, Zemel and Salakhutdinov 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.core.checks import check_positive
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch, balanced_mean


class BinaryCrossEntropyLoss(Loss):
    """`-same log p - (1 - same) log(1 - p)` with `p = sigmoid(scale * similarity + bias)`, balanced.

    Meant for a learned similarity, such as Koch's weighted L1, whose logit it trains (section 3.2 of the paper).

    Args:
        scale: factor of the similarity; above 1 for cosines, which stay in [-1, 1].
        bias: added to it; above 0 for `similarity: euclidean`, a negative squared distance: without it no pair could
            be classified as the same.

    Raises:
        ConfigError: scale not above 0.
    """

    trains_similarity = True
    pairs_only = True
    supports_unshared = True

    def __init__(self, *, scale: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        check_positive("scale", scale)
        self.scale, self.bias = scale, bias

    def forward(self, batch: EncodedBatch) -> Tensor:
        same = batch.pairs.same
        logit = self.scale * batch.pair_similarity("binary_cross_entropy") + self.bias
        loss = F.binary_cross_entropy_with_logits(logit, same.to(logit.dtype), reduction="none")
        return balanced_mean(loss, same)
