"""What few-shot methods are told and asked: images of the same classes, drawn apart once for all methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.episodes import check_two_classes
from vlfew.evaluation.feature_bank import split_images

OnSmallClass = Literal["error", "skip"]


@dataclass(frozen=True)
class Sides:
    """Where images come from.

    Attributes:
        data: the data set.
        support: the split that gives what methods are told, and what is held out for validation.
        query: the split that gives what they are asked; the same one where a split has all images of
            its classes.
    """

    data: LabeledImages
    support: str
    query: str

    @property
    def apart(self) -> bool:
        """Whether queries come from another split."""
        return self.query != self.support

    def labels(self, split: str) -> Tensor:
        """Class numbers of the images of a split, in the order of its bank."""
        return self.data.labels[split_images(self.data, split)]


@dataclass(frozen=True)
class Draw:
    """N classes, and images of them for three ends that share none.

    Attributes:
        classes: `[N]` class numbers in the data.
        support: `[N, K]` positions in the bank of the support. The first k of a row are the support of k shots:
            more shots are the fewer ones and others.
        held: `[N, V]` positions in the bank of the support, for validation.
        query: `[Q]` positions in the bank of the queries.
        target: `[Q]` class of each query, in `0..N-1`.
    """

    classes: Tensor
    support: Tensor
    held: Tensor
    query: Tensor
    target: Tensor

    def validation(self, shots: int) -> tuple[Tensor, Tensor]:
        """Positions in the bank of the support, and classes, of the images held out: `shots` a class at most."""
        held = self.held[:, :shots]
        return held.flatten(), torch.arange(len(held)).repeat_interleave(held.shape[1])

    def among(self, rows: Tensor) -> Draw:
        """The same images of the classes `rows [M]` alone, in ascending order of the rows."""
        rows = rows.sort().values
        place = torch.full((len(self.classes),), -1)
        place[rows] = torch.arange(len(rows))
        kept = place[self.target] >= 0
        return Draw(
            self.classes[rows],
            self.support[rows],
            self.held[rows],
            self.query[kept],
            place[self.target[kept]],
        )


def classes_with_enough(sides: Sides, shots: int, held: int, on_small_class: OnSmallClass) -> Tensor:
    """`[C]` classes, ascending, that have images for so many shots, validation and a query.

    Raises:
        DataError: a class has fewer, unless such classes are left out; fewer than two are left.
    """
    data = sides.data
    have = sides.labels(sides.support).bincount(minlength=len(data.class_names))
    classes = sides.labels(sides.query).unique()
    need = shots + held + (0 if sides.apart else 1)
    enough = have[classes] >= need
    if on_small_class == "error" and not bool(enough.all()):
        lacking = classes[~enough].tolist()
        more = f" (and {len(lacking) - 1} more classes have too few)" if len(lacking) > 1 else ""
        parts = [f"{shots} shots", f"{held} for validation" if held else "", "" if sides.apart else "a query"]
        raise DataError(
            f"{data.name}: class {data.class_names[lacking[0]]!r} has {int(have[lacking[0]])} images in split "
            f"{sides.support!r}{more}, where {' and '.join(filter(None, parts))} take {need}; ask for fewer "
            "shots, or leave such classes out (--on-small-class skip)"
        )
    check_two_classes(classes[enough].tolist(), data.class_names)
    return classes[enough]


def draw_classes(classes: Tensor, ways: int, seed: int) -> Tensor:
    """N of the classes `[C]`, ascending, seeded; all of them where there are no more."""
    if ways >= len(classes):
        return classes
    chosen = generator_at(seed, "adapt", "classes").permutation(len(classes))[:ways]
    return classes[torch.from_numpy(chosen).sort().values]


def draw_images(
    sides: Sides, classes: Tensor, shots: int, held: int, seed: int, most_queries: int | None = None
) -> Draw:
    """Support, validation and query images of the classes `[N]`, each of which has enough.

    What is drawn of a class depends on the seed and the class alone, and the support not on how much is
    held out. Queries are all that is left, or as many a class as make `most_queries` in all, at least
    one.
    """
    each = None if most_queries is None else max(1, most_queries // len(classes))
    told = _shuffled(sides, sides.support, classes, seed)
    asked = _shuffled(sides, sides.query, classes, seed) if sides.apart else told
    query = [one[0 if sides.apart else shots + held :][:each] for one in asked]
    return Draw(
        classes,
        support=torch.stack([one[:shots] for one in told]),
        held=torch.stack([one[shots : shots + held] for one in told]),
        query=torch.cat(query),
        target=torch.arange(len(classes)).repeat_interleave(torch.tensor([len(one) for one in query])),
    )


def _shuffled(sides: Sides, split: str, classes: Tensor, seed: int) -> list[Tensor]:
    """Positions in the split's bank of the images of each class, in an order drawn for it alone."""
    labels = sides.labels(split)
    counts = labels.bincount(minlength=len(sides.data.class_names))
    parts = labels.argsort(stable=True).split(counts.tolist())
    return [
        parts[c][torch.from_numpy(generator_at(seed, "adapt", split, c).permutation(len(parts[c])))]
        for c in classes.tolist()
    ]
