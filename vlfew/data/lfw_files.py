"""The files of LFW: its images, and the official lists of people and pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from vlfew.core.errors import DataError
from vlfew.data.image_files import DataFile, list_files
from vlfew.data.pairs import Pairs
from vlfew.data.table_files import read_text

FOLDER_NAMES = ("lfw-deepfunneled", "lfw_funneled", "lfw")
_IMAGE = re.compile(r"(?P<person>.+)_(?P<number>\d{4})\.jpg")


@dataclass(frozen=True)
class LFWFiles:
    """The files of LFW: images by person and number, in the order of their names, and the folder of the lists."""

    root: Path
    images: dict[tuple[str, int], DataFile]

    @property
    def people(self) -> list[str]:
        """Everyone with an image, by name."""
        return sorted({person for person, _ in self.images})


def check(root: Path) -> LFWFiles:
    """List the images under `root` without decoding them.

    Raises:
        DataError: there are none, or a file name is not a person and a number.
    """
    place = next(
        (p for name in FOLDER_NAMES for p in (root / name, root / f"{name}.tar") if p.exists()), None
    )
    if place is None:
        packed = next((p for name in FOLDER_NAMES for p in sorted(root.glob(f"{name}.t*gz"))), None)
        if packed is not None:
            raise DataError(f"{packed} is compressed; unpack it where it is: tar -xf {packed} -C {root}")
        raise DataError(f"lfw: neither {FOLDER_NAMES[0]}/ nor {FOLDER_NAMES[0]}.tar in {root}")
    images: dict[tuple[str, int], DataFile] = {}
    for file in list_files(place):
        if not file.name.endswith(".jpg"):
            continue
        match = _IMAGE.fullmatch(file.name.rpartition("/")[2])
        if not match:
            raise DataError(f"lfw: {file.name} in {place} is not like First_Last/First_Last_0001.jpg")
        images[match["person"], int(match["number"])] = file
    if not images:
        raise DataError(f"lfw: no images (*.jpg) in {place}")
    return LFWFiles(root, images)


def _list(files: LFWFiles, name: str) -> Path:
    """The path of a list.

    Raises:
        DataError: it is missing.
    """
    path = files.root / name
    if not path.is_file():
        raise DataError(f"lfw: the list {name} is missing in {files.root}; it comes with the data set")
    return path


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """`file:line` and the fields of each line that is not blank; names may have spaces where tabs separate them."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line := line.strip():
            yield f"{path}:{number}", [f.strip() for f in line.split("\t" if "\t" in line else None)]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def read_people(files: LFWFiles, name: str) -> list[set[str]]:
    """Sets of people: a line with their number, then for each set its size and one line per person.

    A list with one set omits the number of sets.
    """
    lines = list(_lines(_list(files, name)))
    several = sum(len(fields) == 1 for _, fields in lines) > 1
    entries, available = iter(lines[several:]), set(files.people)
    set_of: dict[str, int] = {}
    number = left = 0
    for where, fields in entries:
        if len(fields) != 1 or not _is_number(fields[0]):
            raise DataError(f"{where}: expected the number of people that follow")
        number, left = number + 1, int(fields[0])
        for where, fields in islice(entries, left):
            if len(fields) != 2:
                raise DataError(f"{where}: expected a person and a number of images")
            person = fields[0]
            if person not in available:
                raise DataError(f"{where}: no image of {person}")
            if set_of.setdefault(person, number) != number:
                raise DataError(f"{where}: {person} is in set {set_of[person]} as well as in set {number}")
            left -= 1
    if not set_of:
        raise DataError(f"{files.root / name}: lists no people")
    if left:
        raise DataError(f"{files.root / name}: people missing at the end: {left}")
    return [{p for p, own in set_of.items() if own == n} for n in range(1, number + 1)]


@dataclass(frozen=True)
class ListedPair:
    """A line of a list of pairs.

    Attributes:
        where: `file:line`.
        fold: from 0.
        images: person and number of each, as written.
    """

    where: str
    fold: int
    images: tuple[tuple[str, str], tuple[str, str]]

    @property
    def same(self) -> bool:
        return self.images[0][0] == self.images[1][0]


def list_pairs(path: Path) -> tuple[int, list[ListedPair]]:
    """The number of folds and the pairs of a list: `person i j` for the same person, `person i other j` for two.

    The first line has the number of pairs of each kind, in each fold where the number of folds stands before it.

    Raises:
        DataError: a line that is neither; other numbers of pairs than the first line announces.
    """
    lines = list(_lines(path))
    head = lines[0][1] if lines else []
    if len(head) not in (1, 2) or not all(_is_number(word) for word in head):
        raise DataError(
            f"{path}:1: expected the number of pairs of each kind, after the number of folds where there are several"
        )
    folds, each = int(head[0]) if len(head) == 2 else 1, int(head[-1])
    if len(lines) - 1 != 2 * folds * each or not folds * each:
        raise DataError(
            f"{path}: {len(lines) - 1:,} pairs, but the first line announces {2 * folds * each:,}"
        )
    listed = []
    for number, (where, fields) in enumerate(lines[1:]):
        if len(fields) not in (3, 4) or (len(fields) == 4 and fields[0] == fields[2]):
            raise DataError(f"{where}: expected a person and two numbers, or two people with a number each")
        other = fields[0] if len(fields) == 3 else fields[2]
        listed.append(ListedPair(where, number // (2 * each), ((fields[0], fields[1]), (other, fields[-1]))))
    for fold in range(folds):
        same = sum(pair.same for pair in listed[2 * each * fold :][: 2 * each])
        if same != each:
            raise DataError(
                f"{path}: {same:,} same and {2 * each - same:,} different pairs"
                + (f" in fold {fold + 1}" if folds > 1 else "")
                + f", but the first line announces {each:,} of each"
            )
    return folds, listed


def read_pairs(files: LFWFiles, name: str, at: dict[tuple[str, int], int], folds: list[set[str]]) -> Pairs:
    """The pairs of a list, with the folds of their people."""
    fold_of = {person: n for n, people in enumerate(folds) for person in people}
    images: list[int] = []
    same: list[bool] = []
    fold: list[int] = []
    for pair in list_pairs(_list(files, name))[1]:
        for person, n in pair.images:
            key = (person, int(n) if _is_number(n) else -1)
            if key not in at:
                missing = f"{person}_{n.zfill(4)}.jpg"
                why = "cannot be read" if key in files.images else "is missing"
                raise DataError(f"{pair.where}: the image {missing} {why}")
            if person not in fold_of:
                raise DataError(f"{pair.where}: {person} is in no list of people")
            images.append(at[key])
            fold.append(fold_of[person])
        same.append(pair.same)
    i, j = torch.tensor(images).view(-1, 2).T
    return Pairs(i, j, torch.tensor(same), torch.tensor(fold).view(-1, 2))
