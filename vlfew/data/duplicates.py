"""Images that a data set has more than once: a class that is two, a test image that was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vlfew.core.plurals import counted

if TYPE_CHECKING:
    from vlfew.data.labeled_images import LabeledImages


def identical_images(hashes: Tensor) -> list[list[int]]:
    """Numbers of the images with the same hash `[S]`, a list for each image that there is more than once."""
    _, image_of, counts = hashes.unique(return_inverse=True, return_counts=True)
    repeated = (counts[image_of] > 1).nonzero().flatten()
    groups: dict[int, list[int]] = {}
    for number, image in zip(repeated.tolist(), image_of[repeated].tolist(), strict=True):
        groups.setdefault(image, []).append(number)
    return sorted(groups.values())


class Repeated(NamedTuple):
    """Images that are repeated in one way.

    Attributes:
        where: `in two classes`, `in train and test`, `twice in a class`, or `twice` where images have several objects.
        groups: numbers of the same images.
        example: names of two of them.
    """

    where: str
    groups: list[list[int]]
    example: str

    @property
    def text(self) -> str:
        """`3 images in two classes (a/1.png and b/2.png)`."""
        return f"{counted(len(self.groups), 'image')} {self.where} ({self.example})"


WITHIN = ("twice in a class", "twice")


def repeated_images(data: LabeledImages) -> list[Repeated]:
    """Images in two classes, then in two splits, then twice in a class.

    In memory, images are the same if their pixels are, at the size at which they were read; otherwise if their files
    are.
    """
    split_of: dict[int, str] = {}
    groups = [] if data.images.hashes is None else identical_images(data.images.hashes)
    numbers = torch.tensor([number for group in groups for number in group], dtype=torch.int64)
    for split, index in data.splits.items():
        split_of |= dict.fromkeys(numbers[torch.isin(numbers, index)].tolist(), split)
    found: dict[str, list[list[int]]] = {}
    for group in groups:
        splits = list(dict.fromkeys(split_of[number] for number in group if number in split_of))
        places = ["in two classes"] if len(set(data.labels[group].tolist())) > 1 else []
        if len(splits) > 1:
            places.append(f"in {splits[0]} and {splits[1]}")
        for place in places or [WITHIN[data.boxes is not None]]:
            found.setdefault(place, []).append(group)
    return [
        Repeated(place, found[place], _example(data, found[place][0], split_of, place))
        for place in sorted(found, key=lambda place: place in WITHIN)
    ]


def duplicate_note(data: LabeledImages) -> str:
    """How many images are repeated, where, with an example; empty if none is."""
    repeated = repeated_images(data)
    return f"identical images: {', '.join(one.text for one in repeated)}" if repeated else ""


def _example(data: LabeledImages, group: Sequence[int], split_of: Mapping[int, str], place: str) -> str:
    """Two of the images, of two classes or two splits where that is the point."""
    first = group[0]
    differ = {
        "in two classes": [n for n in group if data.labels[n] != data.labels[first]],
        **dict.fromkeys(WITHIN, group[1:]),
    }.get(place, [n for n in group if split_of.get(n) not in (None, split_of.get(first))])
    return " and ".join(
        data.image_names[n] if data.image_names else f"image {n} of {data.class_names[int(data.labels[n])]!r}"
        for n in (first, differ[0])
    )
