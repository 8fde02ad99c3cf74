"""Pairs of images for verification: do both show the same class?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """M image pairs.

    Attributes:
        i, j: `[M]` int64, the numbers of the two images.
        same: `[M]` bool, whether both show the same class.
        fold: `[M, 2]` int64, the fold of the class of each image; a class is in one fold only. In most protocols
            (such as LFW) both columns are equal.
    """

    i: Tensor
    j: Tensor
    same: Tensor
    fold: Tensor

    def __post_init__(self) -> None:
        shapes = {len(self.i), len(self.j), len(self.same), len(self.fold)}
        if len(shapes) > 1 or self.same.dtype != torch.bool or self.fold.shape != (len(self.i), 2):
            raise ValueError("i, j and same are [M], same is bool, fold is [M, 2]")

    def __len__(self) -> int:
        return len(self.i)

    def select(self, chosen: Tensor) -> Pairs:
        """The pairs `chosen [M]` bool, without folds."""
        return Pairs(self.i[chosen], self.j[chosen], self.same[chosen], torch.zeros_like(self.fold[chosen]))
