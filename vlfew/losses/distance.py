"""Distances between embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vlfew.core.checks import check_one_of, check_positive
from vlfew.core.errors import ConfigError

Distance = Literal["euclidean", "squared", "l1"]
"""The Euclidean distance, its square, or the sum of absolute differences."""

MAX_UNIT_DISTANCE = {"euclidean": 2.0, "squared": 4.0}
"""How far apart unit vectors can be; in L1 that depends on their dimension."""


def check_margin(margin: float | None, distance: Distance, normalize: bool) -> None:
    """Checks that embeddings can be a margin apart; None is no margin.

    Raises:
        ConfigError: unknown distance; a margin that is not above 0, or wider than unit vectors can be apart.
    """
    check_one_of("distance", distance, Distance)
    if margin is None:
        return
    check_positive("margin", margin)
    if normalize and margin > MAX_UNIT_DISTANCE.get(distance, margin):
        raise ConfigError(
            f"margin is {margin}, and unit vectors are at most {MAX_UNIT_DISTANCE[distance]:g} apart "
            f"(distance: {distance}); lower it, or use normalize: false"
        )


def pair_distance(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    """Distances of `a [M, D]` and `b [M, D]`, row by row: `[M]`."""
    difference = a - b
    if distance == "l1":
        return difference.abs().sum(1)
    squared = difference.pow(2).sum(1)
    # The square root has an infinite slope at 0: pairs of equal vectors would give NaN gradients.
    return squared if distance == "squared" else squared.clamp(min=1e-12).sqrt()


def distance_matrix(x: Tensor, distance: Distance) -> Tensor:
    """Distances of all pairs of `x [B, D]`: `[B, B]`."""
    # From differences: a matrix product loses the digits of vectors that are close.
    exact = "donot_use_mm_for_euclid_dist"
    d = torch.cdist(x, x, p=1.0 if distance == "l1" else 2.0, compute_mode=exact)
    return d.pow(2) if distance == "squared" else d
