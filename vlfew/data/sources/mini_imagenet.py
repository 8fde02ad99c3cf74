"""mini_imagenet: 100 classes of ImageNet with 600 images each (Vinyals et al. 2016), in the split of Ravi and
Larochelle (2017): 64 classes for training, 16 for validation, 20 for test.

The official `train.csv`, `val.csv` and `test.csv` (`filename,label`) say which image is of which class
and in which split, whatever folders the images lie in. An image is known by its file name, as the
files do that are made with these lists (`n0153282900000005.jpg`). ImageNet's own names
(`n01532829_38.JPEG`) do not tell which of the listed images a file is: such a set is read with lists of
its own that name its files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from vlfew.core.errors import DataError
from vlfew.data.class_names import unique_names
from vlfew.data.data_root import find_data
from vlfew.data.decode import is_image
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.image_stores import hold
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.table_files import read_text, rows_csv

SPLITS = ("train", "val", "test")
NAMES = "class_names.json"
Words = Literal["names", "definitions", "both"]


def load(
    root: Path | None, preprocessor: ImagePreprocessor, *, words: Words = "names", memory_limit_mb: int = 2048
) -> LabeledImages:
    """The images at hand, in the order of the CSVs; how many of how many they are is in `note`.

    They may lie anywhere below the root: in `images/`, in folders of classes, in folders of splits with
    folders of classes in them; or, where no image lies in a folder, in zip archives laid out in any
    of these ways. `class_names.json` (WordNet number to words, several of them with commas between)
    makes words of the class names. Classes without any image are left out. The fingerprint covers
    names and sizes of the images, labels, words and split; it is the same for folders and archives.

    Args:
        root: folder with the CSVs and the images; None looks where data lie.
        preprocessor: how to read the images.
        words: what says a class: its names; WordNet's names and definition in one (`house finch, linnet,
            Carpodacus mexicanus: small finch originally of the western United States and Mexico`); or each of both.
        memory_limit_mb: larger sets (decoded, in MiB) are decoded as they are asked for.

    Raises:
        DataError: what `check` finds wrong, or an image that cannot be read; definitions are asked for
            of classes that have other numbers than WordNet's.
    """
    found = check(find_data("mini_imagenet", root))
    listed = [row for row in found.rows if row.filename in found.files]
    files = [found.files[row.filename] for row in listed]
    images, kept, skipped = hold(files, preprocessor, "reading mini_imagenet", memory_limit_mb)
    at_hand = [listed[n] for n in kept.tolist()]
    wnids = sorted({row.label for row in at_hand})
    given = [found.words.get(wnid, (wnid,)) for wnid in wnids]
    names = texts = given
    if words != "names":
        defined = _defined(wnids)
        if not found.words:
            names = [tuple(text.partition(":")[0].split(", ")) for text in defined]
        texts = [
            (*own, said) if words == "both" else (said,) for own, said in zip(names, defined, strict=True)
        ]
    number = {wnid: n for n, wnid in enumerate(wnids)}
    of_split = {s: torch.tensor([n for n, row in enumerate(at_hand) if row.split == s]) for s in SPLITS}
    return LabeledImages(
        name="mini_imagenet",
        images=images,
        labels=torch.tensor([number[row.label] for row in at_hand], dtype=torch.int64),
        class_names=unique_names([own[0] for own in names], wnids),
        names_are_text=bool(found.words) or words != "names",
        splits={split: index for split, index in of_split.items() if len(index)},
        # Said in other words, the images are the same data.
        fingerprint=digest(
            [(*row, file.size) for row, file in zip(listed, files, strict=True)], skipped, given
        ),
        class_texts=tuple(texts),
        image_names=tuple(row.filename for row in at_hand),
        skipped=skipped,
        note=found.note,
    )


class Row(NamedTuple):
    """A line of a CSV."""

    filename: str
    label: str
    split: str


@dataclass(frozen=True)
class Found:
    """What the CSVs list, and what of it is there.

    Attributes:
        rows: of all three CSVs.
        files: file name to the image, for listed images only.
        words: class to its words; empty without `class_names.json`.
        note: how many of the listed images are at hand, and how many lie there unlisted, else "".
    """

    rows: list[Row]
    files: dict[str, DataFile]
    words: dict[str, tuple[str, ...]]
    note: str


def check(root: Path) -> Found:
    """Looks through a folder without decoding an image.

    Raises:
        DataError: a CSV is missing, lacks a column, or lists an image twice or a class in two splits;
            no listed image is there, or one is there twice; `class_names.json` lacks a class.
    """
    rows = _read_lists(root)
    listed = {row.filename for row in rows}
    lying = list_files(root)
    files, others = _known(root, lying, listed)
    if not files:
        archives = [root / file.name for file in lying if file.name.lower().endswith(".zip")]
        files, more = _known(root, [file for a in archives for file in list_files(a)], listed)
        others += more
    if not files:
        other = f"; {others[0]}, for one, is not among them" if others else ""
        raise DataError(
            f"{root}: none of the {len(rows):,} images that the CSVs name is there, in folders or zip "
            f"archives{other}"
        )
    notes = []
    if len(files) < len(rows):
        notes.append(f"{len(files):,} of {len(rows):,} images at hand")
    if others:
        notes.append(f"images left aside that no CSV names: {len(others):,}")
    return Found(rows, files, _read_words(root / NAMES, {row.label for row in rows}), "; ".join(notes))


def _known(root: Path, lying: list[DataFile], listed: set[str]) -> tuple[dict[str, DataFile], list[str]]:
    """The images that are listed, by file name, and the places of those that are not."""
    files: dict[str, DataFile] = {}
    others: list[str] = []
    for file in lying:
        name = file.name.rpartition("/")[2]
        if name in listed:
            if files.setdefault(name, file) is not file:
                raise DataError(f"{root}: image {name} is there twice: {files[name].name} and {file.name}")
        elif is_image(name):
            others.append(file.name)
    return files, others


def _read_lists(root: Path) -> list[Row]:
    """The rows of all three CSVs."""
    rows: list[Row] = []
    place: dict[str, str] = {}
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / f"{split}.csv"
        if not path.is_file():
            raise DataError(
                f"{root}: no {path.name}; the official train.csv, val.csv and test.csv are needed"
            )
        before = len(rows)
        for line, row in rows_csv(path):
            at = f"{path}:{line}"
            for column in ("filename", "label"):
                if not row.get(column):
                    had = ", ".join(row)
                    raise DataError(f"{at}: no {column!r}: filename and label are needed, got {had}")
            name, label = row["filename"], row["label"]
            if "/" in name or "\\" in name or "\0" in name:
                raise DataError(f"{at}: {name!r} is not the plain name of a file")
            if place.setdefault(name, at) != at:
                raise DataError(f"{at}: image {name} is listed twice: first at {place[name]}")
            if split_of.setdefault(label, split) != split:
                raise DataError(
                    f"{at}: class {label!r} is in {split_of[label]}.csv too; few-shot splits must not share "
                    "classes: take the official CSVs"
                )
            rows.append(Row(name, label, split))
        if len(rows) == before:
            raise DataError(f"{path}: lists no images")
    return rows


def _read_words(path: Path, wnids: set[str]) -> dict[str, tuple[str, ...]]:
    """Class to its words; empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(content, dict):
        raise DataError(f'{path}: expected an object like {{"n02099601": "golden retriever"}}')
    words = {}
    for wnid in sorted(wnids):
        given = content.get(wnid)
        if given is None:
            raise DataError(f"{path}: no words for class {wnid!r}")
        own = [" ".join(w.split()) for w in given.split(",")] if isinstance(given, str) else []
        if not all(own) or not own:
            raise DataError(f"{path}: class {wnid!r} needs words, such as 'Walker hound, Walker foxhound'")
        words[wnid] = tuple(dict.fromkeys(own))
    return words


def _defined(wnids: list[str]) -> list[str]:
    """What WordNet says of each class: all its names and the definition, as timm carries them."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet22k")
    try:
        return [info.label_name_to_description(wnid, detailed=True) for wnid in wnids]
    except KeyError as unknown:
        raise DataError(
            f"mini_imagenet: WordNet has no definition of class {unknown}; leave the option words out"
        ) from None
