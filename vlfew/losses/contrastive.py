"""Contrastive loss over pairs (Hadsell, Chopra and LeCun 2006)."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vlfew.errors import ConfigError
from vlfew.losses.encoded import Encoded, balanced_mean
from vlfew.losses.term import Term

Distance = Literal["euclidean", "squared", "l1"]


class PairContrastive(Term):
    """`1/2 (same D^2 + (1 - same) max(0, m - D)^2)`, balanced between same and different pairs.

    Eq. 4 of the paper writes Y = 1 for *different*; here `same` is a bool. `D` is the Euclidean
    distance, its square, or L1 (sources differ).

    Args:
        margin: m, in units of D.
        distance: which D.
        normalize: take distances between unit vectors.

    Raises:
        ConfigError: margin not above 0.
    """

    over_pairs = True
    takes_sides = True

    def __init__(
        self, *, margin: float = 1.0, distance: Distance = "euclidean", normalize: bool = True
    ) -> None:
        super().__init__()
        if not 0 < margin < math.inf:
            raise ConfigError(f"margin is {margin}; it must be a number above 0")
        self.margin, self.distance, self.normalize = margin, distance, normalize

    def forward(self, batch: Encoded) -> Tensor:
        left, right = batch.sides
        if self.normalize:
            left, right = F.normalize(left, dim=1), F.normalize(right, dim=1)
        i, j, same = batch.compared
        difference = left[i] - right[j]
        if self.distance == "l1":
            d = difference.abs().sum(1)
        else:
            squared = difference.pow(2).sum(1)
            # The root has an infinite slope at 0: pairs of equal vectors would give NaN gradients.
            d = squared if self.distance == "squared" else squared.clamp(min=1e-12).sqrt()
        loss = same * d.pow(2) + ~same * (self.margin - d).clamp(min=0).pow(2)
        return balanced_mean(loss / 2, same)
