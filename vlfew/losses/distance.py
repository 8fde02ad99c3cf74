"""How far embeddings are from each other; which distance, the sources do not agree on."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vlfew.core.checks import check_one_of, check_positive
from vlfew.core.errors import ConfigError

Distance = Literal["euclidean", "squared", "l1"]
"""The Euclidean distance, its square, or the sum of absolute differences."""

WIDEST = {"euclidean": 2.0, "squared": 4.0}
"""How far apart unit vectors can be; in L1 that depends on how many numbers they have."""


def check_margin(margin: float | None, kind: Distance, normalize: bool) -> None:
    """Holds a margin, None for none, to being one that images can keep.

    Raises:
        ConfigError: no such distance; a margin that is not above 0, or wider than unit vectors can be apart.
    """
    check_one_of("distance", kind, Distance)
    if margin is None:
        return
    check_positive("margin", margin)
    if normalize and margin > WIDEST.get(kind, margin):
        raise ConfigError(
            f"margin is {margin}, and unit vectors are at most {WIDEST[kind]:g} apart (distance: {kind}); lower it, "
            "or take normalize: false"
        )


def pair_distance(a: Tensor, b: Tensor, kind: Distance) -> Tensor:
    """Distances of `a [M, D]` and `b [M, D]`, row by row: `[M]`."""
    difference = a - b
    if kind == "l1":
        return difference.abs().sum(1)
    squared = difference.pow(2).sum(1)
    # The root has an infinite slope at 0: pairs of equal vectors would give NaN gradients.
    return squared if kind == "squared" else squared.clamp(min=1e-12).sqrt()


def distance_matrix(x: Tensor, kind: Distance) -> Tensor:
    """Distances of `x [B, D]` from each other: `[B, B]`."""
    # By differences: a product of matrices loses the digits of vectors that are close.
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(x, x, p=1.0 if kind == "l1" else 2.0, compute_mode=exact)
    return distance.pow(2) if kind == "squared" else distance
