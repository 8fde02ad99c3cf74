"""Support, validation and query images of the same classes, drawn once for all few-shot methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.episodes import and_others, check_two_classes, numbered
from vlfew.evaluation.feature_bank import split_indices

OnSmallClass = Literal["error", "skip"]


@dataclass(frozen=True)
class Splits:
    """Where images come from.

    Attributes:
        data: the data set.
        support: the split with support and held-out images.
        query: the split with queries; the same one where a split has all images of its classes.
    """

    data: LabeledImages
    support: str
    query: str

    @property
    def differ(self) -> bool:
        """Whether queries come from another split."""
        return self.query != self.support

    def labels(self, split: str) -> Tensor:
        """Class numbers of the images of a split, in the order of its bank."""
        return self.data.labels[split_indices(self.data, split)]


@dataclass(frozen=True)
class Draw:
    """N classes with disjoint support, validation and query images.

    Attributes:
        classes: `[N]` class numbers in the data.
        support: `[N, K]` positions in the bank of the support. The first k of a row are the support of k shots:
            more shots are the fewer ones and others.
        held_out: `[N, V]` positions in the bank of the support, for validation.
        query: `[Q]` positions in the bank of the queries.
        target: `[Q]` class of each query, in `0..N-1`.
    """

    classes: Tensor
    support: Tensor
    held_out: Tensor
    query: Tensor
    target: Tensor

    def validation(self, shots: int) -> tuple[Tensor, Tensor]:
        """Positions in the bank of the support, and classes, of the held-out images: at most `shots` per class."""
        held_out = self.held_out[:, :shots]
        return held_out.flatten(), torch.arange(len(held_out)).repeat_interleave(held_out.shape[1])

    def select_classes(self, rows: Tensor) -> Draw:
        """The same images of the classes `rows [M]` alone, in ascending order of the rows."""
        rows = rows.sort().values
        new_number = torch.full((len(self.classes),), -1)
        new_number[rows] = torch.arange(len(rows))
        selected = new_number[self.target] >= 0
        return Draw(
            self.classes[rows],
            self.support[rows],
            self.held_out[rows],
            self.query[selected],
            new_number[self.target[selected]],
        )


def classes_with_enough(splits: Splits, shots: int, held_out: int, on_small_class: OnSmallClass) -> Tensor:
    """`[C]` classes, ascending, that have images for the shots, for validation and a query.

    Raises:
        DataError: a class has fewer, unless such classes are skipped; fewer than two are left.
    """
    data = splits.data
    available = splits.labels(splits.support).bincount(minlength=len(data.class_names))
    classes = splits.labels(splits.query).unique()
    need = shots + held_out + (0 if splits.differ else 1)
    enough = available[classes] >= need
    if on_small_class == "error" and not bool(enough.all()):
        lacking = classes[~enough].tolist()
        raise DataError(
            f"{data.name}: class {data.class_names[lacking[0]]!r} has "
            f"{numbered(int(available[lacking[0]]), 'image')} in split {splits.support!r}, but "
            f"{numbered(shots, 'shot')}{f', {held_out} for validation' if held_out else ''}"
            f"{'' if splits.differ else ' and 1 query'} need {need}{and_others(len(lacking) - 1)}; "
            + _fewer_shots(int(available[classes].min()), shots, held_out, splits.differ, int(enough.sum()))
        )
    check_two_classes(classes[enough].tolist(), data.class_names)
    return classes[enough]


def _fewer_shots(smallest: int, shots: int, held_out: int, apart: bool, enough: int) -> str:
    """What to do where the smallest class has fewer images than needed, and `enough` classes have enough."""
    queries = 0 if apart else 1
    possible = [n for n in range(1, min(shots, smallest + 1)) if n + min(n, held_out) + queries <= smallest]
    ways_out = [f"set shots to {possible[-1]} or fewer"] if possible else []
    if enough >= 2:
        ways_out.append("skip such classes (--on-small-class skip)")
    return ", or ".join(ways_out) or "add images"


def draw_classes(classes: Tensor, ways: int, seed: int) -> Tensor:
    """N of the classes `[C]`, ascending; all of them where there are no more."""
    if ways >= len(classes):
        return classes
    chosen = generator_at(seed, "adapt", "classes").permutation(len(classes))[:ways]
    return classes[torch.from_numpy(chosen).sort().values]


def draw_images(
    splits: Splits, classes: Tensor, shots: int, held_out: int, seed: int, max_queries: int | None = None
) -> Draw:
    """Support, validation and query images of the classes `[N]`, each of which has enough.

    What is drawn of a class depends on the seed and the class alone, and the support not on the number of
    held-out images. Queries are all images left, or as many per class as make `max_queries` in all, at least
    one.
    """
    per_class = None if max_queries is None else max(1, max_queries // len(classes))
    support = _shuffled(splits, splits.support, classes, seed)
    queries = (
        _shuffled(splits, splits.query, classes, seed)
        if splits.differ
        else [images[shots + held_out :] for images in support]
    )
    query = [images[:per_class] for images in queries]
    return Draw(
        classes,
        support=torch.stack([images[:shots] for images in support]),
        held_out=torch.stack([images[shots : shots + held_out] for images in support]),
        query=torch.cat(query),
        target=torch.arange(len(classes)).repeat_interleave(torch.tensor([len(images) for images in query])),
    )


def _shuffled(splits: Splits, split: str, classes: Tensor, seed: int) -> list[Tensor]:
    """Positions in the split's bank of the images of each class, in an order drawn for it alone."""
    labels = splits.labels(split)
    counts = labels.bincount(minlength=len(splits.data.class_names))
    parts = labels.argsort(stable=True).split(counts.tolist())
    return [
        parts[c][torch.from_numpy(generator_at(seed, "adapt", split, c).permutation(len(parts[c])))]
        for c in classes.tolist()
    ]
