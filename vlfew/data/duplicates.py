"""Images that a data set has more than once: a class that is two, a test image that was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from vlfew.core.plurals import counted

if TYPE_CHECKING:
    from vlfew.data.labeled_images import LabeledImages


def identical_images(data: LabeledImages) -> list[list[int]]:
    """Numbers of the images that are the same, a list for each image that there is more than once.

    In memory, images are the same if their pixels are, at the size at which they were read; otherwise if their files
    are.
    """
    hashes = data.images.hashes
    if hashes is None:
        return []
    _, image_of, counts = hashes.unique(return_inverse=True, return_counts=True)
    repeated = (counts[image_of] > 1).nonzero().flatten()
    groups: dict[int, list[int]] = {}
    for number, image in zip(repeated.tolist(), image_of[repeated].tolist(), strict=True):
        groups.setdefault(image, []).append(number)
    return sorted(groups.values())


def duplicate_note(data: LabeledImages) -> str:
    """How many images there are in two classes, in two splits, and twice in a class, with an example; or ""."""
    split_of: dict[int, str] = {}
    groups = identical_images(data)
    repeated = torch.tensor([number for group in groups for number in group], dtype=torch.int64)
    for split, index in data.splits.items():
        split_of |= dict.fromkeys(repeated[torch.isin(repeated, index)].tolist(), split)
    found: dict[str, list[list[int]]] = {}
    for group in groups:
        splits = list(dict.fromkeys(split_of[number] for number in group if number in split_of))
        where = []
        if len(set(data.labels[group].tolist())) > 1:
            where.append("in two classes")
        if len(splits) > 1:
            where.append(f"in {splits[0]} and {splits[1]}")
        for place in where or ["twice in a class"]:
            found.setdefault(place, []).append(group)
    parts = [
        f"{counted(len(there), 'image')} {place} ({_example(data, there[0], split_of, place)})"
        for place, there in sorted(found.items(), key=lambda item: item[0] == "twice in a class")
    ]
    return f"identical images: {', '.join(parts)}" if parts else ""


def _example(data: LabeledImages, group: Sequence[int], split_of: Mapping[int, str], place: str) -> str:
    """Two of the images, of two classes or two splits where that is the point."""
    first = group[0]
    differ = {
        "in two classes": [n for n in group if data.labels[n] != data.labels[first]],
        "twice in a class": group[1:],
    }.get(place, [n for n in group if split_of.get(n) not in (None, split_of.get(first))])
    return " and ".join(
        data.image_names[n] if data.image_names else f"image {n} of {data.class_names[int(data.labels[n])]!r}"
        for n in (first, differ[0])
    )
