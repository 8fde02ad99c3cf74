"""Train, validation and test by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.random import seed_at

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What people call splits, and what they are called here."""

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
    """Image numbers of `train`, `val` and `test`, with no class in two of them.

    Where the classes are too few for two in each, there is no `val`; where they are too few still, all
    are for training. `too_few_note` says so.

    Args:
        labels: `[S]` int64.
        class_names: one a class.
        val_fraction: of the classes; two at least, or with 0 no `val`.
        test_fraction: of the classes; two at least, or with 0 no `test`.
        seed: of the draw.

    Raises:
        DataError: a single class, or fractions that leave fewer than two for training.
    """
    total = len(class_names)
    if total < LEAST:
        raise DataError(
            f"{total} class ({', '.join(class_names)}): there is nothing to tell it apart from; add another, "
            "with a folder of its own where classes are folders"
        )
    told = f"val_fraction={val_fraction} and test_fraction={test_fraction}"
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise DataError(f"{told} must be 0 or more and sum to less than 1")
    wanted = {part: of for part, of in (("test", test_fraction), ("val", val_fraction)) if of > 0}
    while wanted and (1 + len(wanted)) * LEAST > total:
        wanted.popitem()  # val goes first: without it training runs to its last step
    part_of = dict.fromkeys(class_names, "train")
    for part, fraction in wanted.items():
        rest = [name for name in class_names if part_of[name] == "train"]
        part_of |= dict.fromkeys(draw_names(rest, max(LEAST, round(fraction * total)), seed, part), part)
    left = sum(part == "train" for part in part_of.values())
    if left < LEAST:
        raise DataError(
            f"{told} leave {left} of the {total} classes for training: at least {LEAST} are needed"
        )
    parts = ["train", *(part for part in ("val", "test") if part in wanted)]
    number = torch.tensor([parts.index(part_of[name]) for name in class_names])[labels]
    return {part: (number == n).nonzero().flatten() for n, part in enumerate(parts)}


def too_few_note(classes: int, splits: Mapping[str, Tensor]) -> str:
    """What a reader must know of a split of few classes, and what to do with those that are no split; else ""."""
    missing = [part for part in ("val", "test") if part not in splits]
    if not missing or classes >= 3 * LEAST:
        return ""
    told = (
        f"{classes} classes are too few to hold some out for {' and '.join(missing)} "
        f"({3 * LEAST} are needed, {LEAST} in each part)"
    )
    if "test" in splits:
        return told
    return (
        f"{told}: train on all of them, without figures, by evaluate=[] sampling.classes_per_batch={classes}, "
        "or have a model that was trained on others tell them apart (vlfew classify)"
    )
