"""Contrastive loss over pairs (Hadsell, Chopra and LeCun 2006)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch, balanced_mean
from vlfew.losses.distance import Distance, check_margin, pair_distance


class MarginOfPairs(Loss):
    """A loss that draws same pairs together and pushes different ones a margin apart.

    Args:
        margin: m, in units of D.
        distance: which D, between embeddings.
        normalize: take distances between unit vectors.

    Raises:
        ConfigError: margin not above 0, or wider than unit vectors can be apart; no such distance.
    """

    pairs_only = True

    def __init__(
        self, *, margin: float = 1.0, distance: Distance = "euclidean", normalize: bool = True
    ) -> None:
        super().__init__()
        check_margin(margin, distance, normalize)
        self.margin, self.distance, self.normalize = margin, distance, normalize


class PairContrastive(MarginOfPairs):
    """`1/2 (same D^2 + (1 - same) max(0, m - D)^2)`, balanced between same and different pairs.

    Eq. 4 of the paper writes Y = 1 for *different*; here `same` is a bool. `D` is the Euclidean
    distance, its square, or L1 (sources differ). Those that leave out the half are `weight: 2`.
    """

    supports_unshared = True

    def forward(self, batch: EncodedBatch) -> Tensor:
        left, right = batch.sides
        if self.normalize:
            left, right = F.normalize(left, dim=1), F.normalize(right, dim=1)
        i, j, same = batch.compared
        d = pair_distance(left[i], right[j], self.distance)
        loss = same * d.pow(2) + ~same * (self.margin - d).clamp(min=0).pow(2)
        return balanced_mean(loss / 2, same)
