"""Published splits by class, from lists that come with the package."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import NamedTuple

import torch

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data.class_names import display_name, same_key
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.splits import named_splits


class ListedClass(NamedTuple):
    """A class of a published split."""

    split: str
    group: str
    name: str


def read_class_list(name: str) -> list[ListedClass]:
    """Read `class_lists/<name>.txt`: a split, a group and a class on each line."""
    text = (files("vlfew.data") / "class_lists" / f"{name}.txt").read_text(encoding="utf-8")
    return [ListedClass(*line.split()) for line in text.splitlines() if not line.startswith("#")]


def split_by_list(data: LabeledImages, name: str) -> LabeledImages:
    """`data` with the name, splits and groups of a class list.

    Splits without images are omitted.

    Raises:
        DataError: a class that is not in the list.
    """
    listed = {same_key(entry.name): entry for entry in read_class_list(name)}
    for class_name in data.class_names:
        if same_key(class_name) not in listed:
            known = [display_name(entry.name) for entry in listed.values()]
            raise DataError(f"{name}: unknown class {class_name!r}{did_you_mean(class_name, known)}")
    entries = [listed[same_key(class_name)] for class_name in data.class_names]
    groups = sorted({entry.group for entry in listed.values()})
    return replace(
        data,
        name=name,
        splits=named_splits([entries[label].split for label in data.labels.tolist()]),
        class_group=torch.tensor([groups.index(entry.group) for entry in entries]),
        group_names=tuple(display_name(group) for group in groups),
        fingerprint=digest(data.fingerprint, entries),
    )
