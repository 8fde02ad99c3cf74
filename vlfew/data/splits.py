"""Training, validation and test splits by class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.random import seed_at

_SPLIT_NAME = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev(?:el(?:opment)?)?)|(?P<test>test(?:ing)?))"
    r"(?:[ _-]?(?:set|split|data|images))?",
    re.IGNORECASE,
)

SPLITS = ("train", "val", "test")
MIN_CLASSES = 2
"""Classes in each split: a single class cannot be confused with another."""


def split_named(name: str) -> str:
    """The split that people mean by a name such as `Train`, `training_set`, `valid` or `dev`; empty for other names."""
    match = _SPLIT_NAME.fullmatch(name.strip())
    return "" if match is None else str(match.lastgroup)


def draw_names(names: Sequence[str], count: int, seed: int, part: str) -> set[str]:
    """Draw `count` of the names.

    They are ranked by a hash of seed, part and name, so that an additional class moves few others.
    """
    return set(sorted(names, key=lambda name: seed_at(seed, part, name))[:count])


def named_splits(split_of: Sequence[str]) -> dict[str, Tensor]:
    """Image numbers of `train`, `val` and `test`, without empty ones, from the split of each image."""
    return {
        split: torch.tensor([n for n, own in enumerate(split_of) if own == split])
        for split in SPLITS
        if split in split_of
    }


def split_by_class(
    labels: Tensor,
    class_names: Sequence[str],
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Image numbers of `train`, `val` and `test`, which share no classes.

    If there are too few classes for two in each split, there is no `val`; if there are still too few, all are for
    training. `too_few_note` describes it.

    Args:
        labels: `[S]` int64.
        class_names: one per class.
        val_fraction: of the classes; at least two, or none with 0.
        test_fraction: of the classes; at least two, or none with 0.
        seed: of the draw.

    Raises:
        DataError: a single class, or fractions that leave fewer than two for training.
    """
    total = len(class_names)
    if total < MIN_CLASSES:
        raise DataError(
            f"{total} class ({', '.join(class_names)}): nothing to distinguish it from; add another, "
            "in a folder of its own if classes are folders"
        )
    given = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    fractions = " and ".join(f"{name}={value}" for name, value in given.items() if value) or "the fractions"
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise DataError(f"{fractions} must be 0 or more and sum to less than 1")
    wanted = {part: of for part, of in (("test", test_fraction), ("val", val_fraction)) if of > 0}
    while wanted and (1 + len(wanted)) * MIN_CLASSES > total:
        wanted.popitem()  # val goes first: without it the last weights are used
    part_of = dict.fromkeys(class_names, "train")
    for part, fraction in wanted.items():
        rest = [name for name in class_names if part_of[name] == "train"]
        part_of |= dict.fromkeys(
            draw_names(rest, max(MIN_CLASSES, round(fraction * total)), seed, part), part
        )
    left = sum(part == "train" for part in part_of.values())
    if left < MIN_CLASSES:
        raise DataError(
            f"{left} of the {total} classes would be left for training by {fractions}: {MIN_CLASSES} are needed; "
            "set a smaller fraction, or add classes"
        )
    return named_splits([part_of[class_names[label]] for label in labels.tolist()])


def too_few_note(classes: int, splits: Mapping[str, Tensor]) -> str:
    """What to know about splits of few classes; empty otherwise."""
    missing = [part for part in ("val", "test") if part not in splits]
    if not missing or classes >= 3 * MIN_CLASSES:
        return ""
    return (
        f"{classes} classes are too few to hold some out for {' and '.join(missing)} "
        f"({3 * MIN_CLASSES} are needed, {MIN_CLASSES} in each split)"
    )
