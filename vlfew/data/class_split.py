"""Published splits by class, from the lists that come with the package."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import NamedTuple

import torch

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data.class_names import display_name, same_key
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import LabeledImages

SPLITS = ("train", "val", "test")


class Listed(NamedTuple):
    """A class of a published split."""

    split: str
    group: str
    name: str


def read_class_list(name: str) -> list[Listed]:
    """The classes of `class_lists/<name>.txt`: a split, a group and a class on each line."""
    text = (files("vlfew.data") / "class_lists" / f"{name}.txt").read_text(encoding="utf-8")
    return [Listed(*line.split()) for line in text.splitlines() if not line.startswith("#")]


def split_by_list(data: LabeledImages, name: str) -> LabeledImages:
    """`data` as the source of that name, with the split and the groups of its list of classes.

    Splits without an image are left out.

    Raises:
        DataError: a class that the list does not name.
    """
    listed = {same_key(entry.name): entry for entry in read_class_list(name)}
    for own in data.class_names:
        if same_key(own) not in listed:
            known = [display_name(entry.name) for entry in listed.values()]
            raise DataError(f"{name}: there is no class {own!r}{did_you_mean(own, known)}")
    entries = [listed[same_key(own)] for own in data.class_names]
    groups = sorted({entry.group for entry in listed.values()})
    split_of = torch.tensor([SPLITS.index(entry.split) for entry in entries])[data.labels]
    splits = {split: (split_of == n).nonzero().flatten() for n, split in enumerate(SPLITS)}
    return replace(
        data,
        name=name,
        splits={split: index for split, index in splits.items() if len(index)},
        class_group=torch.tensor([groups.index(entry.group) for entry in entries]),
        group_names=tuple(display_name(group) for group in groups),
        fingerprint=digest(data.fingerprint, entries),
    )
