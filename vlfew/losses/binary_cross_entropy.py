"""Binary cross entropy on the model's pair similarity (Koch, Zemel and Salakhutdinov 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.encoded import Encoded, balanced_mean
from vlfew.losses.term import Term


class PairBinaryCrossEntropy(Term):
    """`-same log p - (1 - same) log(1 - p)`, `p = sigmoid(scale * similarity)`, balanced.

    Meant for a learned similarity, such as Koch's weighted L1, whose logit it trains.

    Args:
        scale: factor on the similarity; above 1 for cosines, which never leave [-1, 1].
    """

    trains_similarity = True
    over_pairs = True
    takes_sides = True

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, batch: Encoded) -> Tensor:
        same = batch.pairs.same
        logit = self.scale * batch.likeness("binary_cross_entropy")
        loss = F.binary_cross_entropy_with_logits(logit, same.to(logit.dtype), reduction="none")
        return balanced_mean(loss, same)
