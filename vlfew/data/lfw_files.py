"""The files of LFW: its images, and the official lists of people and pairs."""

from __future__ import annotations

import math
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


def _lines(files: LFWFiles, name: str) -> Iterator[tuple[str, list[str]]]:
    """`file:line` and the fields of each line that is not blank.

    Raises:
        DataError: the list is missing.
    """
    path = files.root / name
    if not path.is_file():
        raise DataError(f"lfw: the list {name} is missing in {files.root}; it comes with the data set")
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield f"{path}:{number}", line.split()


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def read_people(files: LFWFiles, name: str) -> list[set[str]]:
    """Sets of people: a line with their number, then for each set its size and one line per person.

    A list with one set omits the number of sets.
    """
    lines = list(_lines(files, name))
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


def read_pairs(files: LFWFiles, name: str, at: dict[tuple[str, int], int], folds: list[set[str]]) -> Pairs:
    """The pairs of a list: `person i j` for the same person, `person i other j` for two."""
    fold_of = {person: n for n, people in enumerate(folds) for person in people}
    images: list[int] = []
    same: list[bool] = []
    fold: list[int] = []
    lines = list(_lines(files, name))
    head = lines[0][1] if lines else []
    if len(head) not in (1, 2) or not all(_is_number(word) for word in head):
        raise DataError(f"{files.root / name}:1: expected the number of pairs of each kind")
    wanted = 2 * math.prod(int(word) for word in head)
    if len(lines) - 1 != wanted or not wanted:
        raise DataError(
            f"{files.root / name}: {len(lines) - 1:,} pairs, but the first line announces {wanted:,}"
        )
    for where, fields in lines[1:]:
        if len(fields) not in (3, 4):
            raise DataError(f"{where}: expected a person and two numbers, or two people with a number each")
        one, other = (fields[0], fields[1]), (fields[0] if len(fields) == 3 else fields[2], fields[-1])
        for person, n in (one, other):
            key = (person, int(n) if _is_number(n) else -1)
            if key not in at:
                missing = f"{person}_{n.zfill(4)}.jpg"
                why = "cannot be read" if key in files.images else "is missing"
                raise DataError(f"{where}: the image {missing} {why}")
            if person not in fold_of:
                raise DataError(f"{where}: {person} is in no list of people")
            images.append(at[key])
            fold.append(fold_of[person])
        same.append(one[0] == other[0])
    i, j = torch.tensor(images).view(-1, 2).T
    return Pairs(i, j, torch.tensor(same), torch.tensor(fold).view(-1, 2))
