"""Train, validation and test by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlfew.counting import seed_at
from vlfew.errors import DataError

LEAST = 2
"""Classes in each split: among fewer there is nothing to tell apart."""


def draw_names(names: Sequence[str], count: int, seed: int, part: str) -> set[str]:
    """`count` of the names, seeded.

    Each is ranked by a hash of seed, part and name, so that a class more moves few others.
    """
    return set(sorted(names, key=lambda name: seed_at(seed, part, name))[:count])


def split_by_class(
    labels: Tensor,
    class_names: Sequence[str],
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Picture numbers of `train`, `val` and `test`, with no class in two of them.

    Args:
        labels: `[S]` int64.
        class_names: one a class.
        val_fraction: of the classes; two at least.
        test_fraction: of the classes; two at least.
        seed: of the draw.

    Raises:
        DataError: fewer than six classes, or fractions that leave fewer than two for training.
    """
    if len(class_names) < 3 * LEAST:
        raise DataError(
            f"{len(class_names)} classes ({', '.join(class_names)}) cannot be split into train, val and "
            f"test: at least {3 * LEAST} are needed, {LEAST} in each; fewer can be told apart by a model that was "
            "trained on others (vlfew classify)"
        )
    told = f"val_fraction={val_fraction} and test_fraction={test_fraction}"
    if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
        raise DataError(f"{told} must be above 0 and sum to less than 1")
    total = len(class_names)
    test = draw_names(class_names, max(LEAST, round(test_fraction * total)), seed, "test")
    rest = [name for name in class_names if name not in test]
    val = draw_names(rest, max(LEAST, round(val_fraction * total)), seed, "val")
    left = len(rest) - len(val)
    if left < LEAST:
        raise DataError(
            f"{told} leave {left} of the {total} classes for training: at least {LEAST} are needed"
        )
    part = torch.tensor([2 if name in test else 1 if name in val else 0 for name in class_names])[labels]
    return {name: (part == n).nonzero().flatten() for n, name in enumerate(("train", "val", "test"))}
