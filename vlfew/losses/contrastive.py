"""Contrastive loss over pairs (Hadsell, Chopra and LeCun 2006)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch, balanced_mean
from vlfew.losses.distance import Distance, check_margin, pair_distance


class PairMarginLoss(Loss):
    """Base of losses that pull same pairs together and push different ones a margin apart.

    Args:
        margin: m, in units of D.
        distance: D between embeddings: `euclidean`, its square (`squared`) or `l1`.
        normalize: whether D is taken between unit vectors.

    Raises:
        ConfigError: margin not above 0, or wider than unit vectors can be apart; unknown distance.
    """

    pairs_only = True

    def __init__(
        self, *, margin: float = 1.0, distance: Distance = "euclidean", normalize: bool = True
    ) -> None:
        super().__init__()
        check_margin(margin, distance, normalize)
        self.margin, self.distance, self.normalize = margin, distance, normalize


class ContrastiveLoss(PairMarginLoss):
    """`1/2 (same D^2 + (1 - same) max(0, m - D)^2)`, balanced between same and different pairs.

    Eq. 4 of the paper has Y = 1 for *different* pairs; here `same` is a bool. Sources without the factor 1/2
    correspond to `weight: 2`.
    """

    supports_unshared = True

    def forward(self, batch: EncodedBatch) -> Tensor:
        left, right = batch.sides
        if self.normalize:
            left, right = F.normalize(left, dim=1), F.normalize(right, dim=1)
        i, j, same = batch.compared_pairs
        d = pair_distance(left[i], right[j], self.distance)
        loss = same * d.pow(2) + ~same * (self.margin - d).clamp(min=0).pow(2)
        return balanced_mean(loss / 2, same)
