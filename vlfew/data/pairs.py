"""Pairs of images for verification: do both show the same class?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
        way_out: what gives other folds, for messages about these; "" where nothing does.
    """

    i: Tensor
    j: Tensor
    same: Tensor
    fold: Tensor
    way_out: str = ""

    def __post_init__(self) -> None:
        shapes = {len(self.i), len(self.j), len(self.same), len(self.fold)}
        if len(shapes) > 1 or self.same.dtype != torch.bool or self.fold.shape != (len(self.i), 2):
            raise ValueError("i, j and same are [M], same is bool, fold is [M, 2]")

    def __len__(self) -> int:
        return len(self.i)

    def select(self, chosen: Tensor) -> Pairs:
        """The pairs `chosen [M]` bool, without folds."""
        return Pairs(self.i[chosen], self.j[chosen], self.same[chosen], torch.zeros_like(self.fold[chosen]))


def why_not_scored(same: np.ndarray, fold: np.ndarray, identity: np.ndarray) -> tuple[str, str]:
    """Which of the pairs lack one kind, where both are needed for a threshold and a score, and what to add there.

    Both kinds are needed in each fold, unless pairs lie across folds, and outside the folds of each pair. Empty texts
    where they are there.

    Args:
        same: `[M]` bool.
        fold: `[M, 2]` of both images.
        identity: `[M, 2]` of both images.
    """
    numbers = np.unique(fold)
    parts = [("", np.ones_like(fold, dtype=bool))]
    if len(numbers) > 1:
        # Pairs across folds may leave a fold with one kind only, without any mistake: then it has no curve.
        if (fold[:, 0] == fold[:, 1]).all():
            parts += [(f" in fold {n + 1}", fold == n) for n in numbers]
        for first, second in np.unique(np.sort(fold, axis=1), axis=0):
            named = f"fold {first + 1}" if first == second else f"folds {first + 1} and {second + 1}"
            parts.append((f" outside {named}", ~np.isin(fold, (first, second))))
    for where, sides in parts:
        kinds, further = same[sides.all(axis=1)], "add pairs of further identities"
        if not len(kinds):
            return f"there are no pairs{where}", further
        if kinds.all() or not kinds.any():
            possible = not kinds.all() or not where or len(np.unique(identity[sides])) > 1
            what = f"the pairs{where} are all {'the same' if kinds.all() else 'different'}"
            return what, "add pairs of the other kind" if possible else further
    return "", ""
