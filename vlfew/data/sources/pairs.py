"""pairs: your own verification pairs, a CSV of two images and whether they show the same identity.

Columns `first`, `second` (paths relative to the CSV) and `same` (1 or 0, true or false).
Optional columns: `first_id` and `second_id`, the identities; `fold`, in which the pair is scored.

Or a list as LFW's `pairs.txt`: `folds n` or `n` in the first line, then for each fold n lines `name i j` (the same
person) and n lines `name i other j`, separated by tabs; image i of a person is `name_000i.jpg`, or of another suffix.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted, first_names
from vlfew.core.random import seed_at
from vlfew.data.class_names import number_classes
from vlfew.data.connected import first_connected
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.image_names import is_image
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.lfw_files import list_pairs
from vlfew.data.pairs import Pairs, why_not_scored
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLITS
from vlfew.data.table_files import FileLookup, read_rows, read_text

_SAME = dict.fromkeys(("1", "true", "yes", "same"), True) | dict.fromkeys(
    ("0", "false", "no", "different"), False
)
_LIST = re.compile(r"\s*(\d+([ \t]+\d+)?|[^,;\n]+[ \t]\d+[ \t]+([^,;\n]+[ \t])?\d+)[ \t]*\r?(\n|$)")
"""The first line of a list as LFW's; or a line of such a list, whose first line is missing."""
_NUMBERED = re.compile(r"(?P<person>.+)_(?P<number>\d+)")
LONGEST_LINE = 1000
"""Characters; a longer one is of another table."""
MOST_TRIED = 20
"""Largest number of folds that is tried for a message."""
NEEDED, IDS = ("first", "second", "same"), ("first_id", "second_id")


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    file: str = "pairs.csv",
    folds: Annotated[int, Field(ge=1)] = 10,
    fold: Annotated[int, Field(ge=1)] | Literal["all"] = "all",
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """Your own image pairs for verification, from a CSV or a list as LFW's; all are in `test` unless a fold is given.

    With a `fold`, identities and pairs of that fold are for testing, those of the next fold for validation and those of
    the other folds for training. Pairs across splits are omitted and counted.

    Classes are the identities: given as ids, or else connected by same pairs. Without a column `fold`, identities are
    distributed over folds by `preprocessor.seed`, and the threshold of a pair is chosen only on pairs that share no
    fold with either of its images.

    Args:
        root: folder of the file; None searches the usual places.
        preprocessor: size, channels and how to resize; where it skips bad images, their pairs are left out.
        file: name of the CSV file, or of the list, such as `pairs.txt`.
        folds: number of folds of identities; at most as many as there are identities.
        fold: test fold, if the other folds are for training, or `all`.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: missing columns; a line with a missing image, that contradicts others, or puts an identity into a
            second fold; a fold that does not exist, or fewer than 3.
    """
    path = find_data("pairs", root, prepared=False) / file
    without_folds = "leave out the column fold"
    if _is_list(path):
        listed = list(_listed_rows(path))
        without_folds = f"write {len(listed) // 2} alone in the first line"
    else:
        listed = list(_rows(path))
    if not listed:
        raise DataError(f"{path}: contains no pairs")
    rows, repeated = _once(listed)
    names = list(dict.fromkeys(name for row in rows for name in row.images))
    identity = _identities(rows, names)
    fold_of, way_out = _folds(rows, identity, folds, preprocessor.seed, without_folds)

    files = [DataFile.at(path.parent, name) for name in names]
    skipping = replace(preprocessor, on_bad_image="skip")  # reported here, with the line of the pair
    images, kept, skipped, hashes = load_images(files, skipping, "reading images", memory_limit_mb)
    notes = [f"pairs that are listed again, counted once: {first_names(repeated)}"] if repeated else []
    if skipped:
        readable = [row for row in rows if not set(row.images) & set(skipped)]
        if preprocessor.on_bad_image == "error" or not readable:
            row = next(row for row in rows if set(row.images) & set(skipped))
            name = next(name for name in row.images if name in skipped)
            raise DataError(f"{row.where}: {name} cannot be read; repair it, or remove the line")
        notes.append(f"{counted(len(rows) - len(readable), 'pair')} with unreadable images left out")
        rows, names = readable, [names[n] for n in kept.tolist()]
    people = sorted({identity[name] for name in names})
    at = {name: n for n, name in enumerate(names)}
    i, j = torch.tensor([[at[name] for name in row.images] for row in rows]).T
    folded = torch.tensor([[fold_of[identity[name]] for name in row.images] for row in rows])
    all_pairs = Pairs(i, j, torch.tensor([row.same for row in rows]), folded, way_out)
    splits, pairs = {"test": torch.arange(len(names))}, {"test": all_pairs}
    if fold != "all":
        fold_of_image = torch.tensor([fold_of[identity[name]] for name in names])
        splits, pairs = _split_by_fold(all_pairs, fold_of_image, fold, f"{path}")
        omitted = len(all_pairs) - sum(map(len, pairs.values()))
        if omitted:
            notes.append(f"{omitted:,} of {len(all_pairs):,} pairs are across splits and omitted")
    return LabeledImages(
        name="pairs",
        images=images,
        labels=number_classes([identity[name] for name in names])[1],
        class_names=tuple(people),
        splits=splits,
        fingerprint=digest(
            names,
            hashes,
            [(*r.images, r.same) for r in rows],
            folded.tolist(),
            *(() if fold == "all" else (fold,)),
        ),
        image_names=tuple(names),
        pairs=pairs,
        skipped=skipped,
        note="; ".join(notes),
    )


def _split_by_fold(
    pairs: Pairs, fold_of_image: Tensor, fold: int, where: str
) -> tuple[dict[str, Tensor], dict[str, Pairs]]:
    """Images and pairs of each split, by the folds of the identities."""
    count = int(fold_of_image.max()) + 1
    if count < 3 or fold > count:
        raise DataError(
            f"{where}: fold={fold} of {counted(count, 'fold')}; training needs at least 3, for test, validation "
            "and training"
        )
    part = torch.zeros(count, dtype=torch.int64)
    part[fold - 1], part[fold % count] = 2, 1
    splits, pairs_of = {}, {}
    for number, split in enumerate(SPLITS):
        splits[split] = (part[fold_of_image] == number).nonzero().flatten()
        pairs_of[split] = pairs.select((part[pairs.fold] == number).all(dim=1))
    return splits, pairs_of


@dataclass(frozen=True)
class Row:
    """A line of the file.

    Attributes:
        where: `file:line`.
        images: the two paths.
        same: whether they show the same identity.
        ids: the two identities, if given.
        fold: if given.

    Raises:
        DataError: an image paired with itself; ids that contradict `same`.
    """

    where: str
    images: tuple[str, str]
    same: bool
    ids: tuple[str, str] | None
    fold: str | None

    def __post_init__(self) -> None:
        if self.images[0] == self.images[1]:
            raise DataError(f"{self.where}: {self.images[0]} is paired with itself")
        if self.ids is not None and (not all(self.ids) or (self.ids[0] == self.ids[1]) != self.same):
            raise DataError(
                f"{self.where}: same is {int(self.same)}, but the ids are {self.ids[0]!r} and {self.ids[1]!r}"
            )


def _rows(path: Path) -> Iterator[Row]:
    columns = f"{', '.join(NEEDED)} (and {' and '.join(IDS)} together)"
    if not path.is_file():
        other = next((f"; is it file={p.name}?" for p in [path.with_name("pairs.txt")] if p.is_file()), "")
        raise DataError(f"{path}: no such file; it must be a CSV with the columns {columns}{other}")
    optional: set[str] | None = None
    lookup = FileLookup((file.name for file in list_files(path.parent)), path.parent, outside=True)
    for where, values in read_rows(path):
        fields = {key.strip(): value.strip() for key, value in values.items()}
        if any(name not in fields for name in NEEDED) or len(fields.keys() & set(IDS)) == 1:
            raise DataError(f"{where}: the columns must be {columns}; got {', '.join(fields)}")
        own = fields.keys() & {*IDS, "fold"}
        if own != (optional := own if optional is None else optional):
            raise DataError(
                f"{where}: {', '.join(sorted(optional - own))} is missing; give it for every pair"
            )
        same = _SAME.get(fields["same"].lower())
        if same is None:
            raise DataError(f"{where}: same must be 1 or 0, not {fields['same']!r}")
        found = [lookup.find(fields[key]) for key in ("first", "second")]
        if None in found:
            missing = fields["first" if found[0] is None else "second"]
            raise DataError(f"{where}: no image {missing!r} in {path.parent}")
        if fields.get("fold") == "":
            raise DataError(f"{where}: empty fold; fill it in, or remove the column")
        ids = (fields[IDS[0]], fields[IDS[1]]) if IDS[0] in fields else None
        yield Row(where, (str(found[0]), str(found[1])), same, ids, fields.get("fold"))


def _is_list(path: Path) -> bool:
    """Whether a file is a list as LFW's, by its first line."""
    if not path.is_file() or path.suffix.lower() == ".jsonl":
        return False
    first = next((line for line in read_text(path).splitlines() if line.strip()), "")
    return len(first) < LONGEST_LINE and _LIST.match(first) is not None


def _listed_rows(path: Path) -> Iterator[Row]:
    """The pairs of a list as LFW's."""
    images: dict[tuple[str, int], list[str]] = {}
    for file in list_files(path.parent):
        if is_image(file.name) and (match := _NUMBERED.fullmatch(PurePosixPath(file.name).stem)):
            person = unicodedata.normalize("NFC", match["person"])
            images.setdefault((person, int(match["number"])), []).append(file.name)
    folds, listed = list_pairs(path)
    for pair in listed:
        found = []
        for person, number in pair.images:
            key = (unicodedata.normalize("NFC", person), int(number) if number.isdecimal() else -1)
            names = images.get(key, [])
            if len(names) != 1:
                missing = f"no image {person}/{person}_{number.zfill(4)}.* in {path.parent}"
                raise DataError(
                    f"{pair.where}: {f'both {names[0]} and {names[1]} are there; remove one' if names else missing}"
                )
            found += names
        ids = (pair.images[0][0], pair.images[1][0])
        yield Row(pair.where, (found[0], found[1]), pair.same, ids, str(pair.fold + 1) if folds > 1 else None)


def _once(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows of different pairs, in either order, and the places of those that come again.

    Raises:
        DataError: a pair is the same in one row and different in another, or in two folds.
    """
    first: dict[frozenset[str], Row] = {}
    repeated = []
    for row in rows:
        earlier = first.setdefault(frozenset(row.images), row)
        if earlier is row:
            continue
        if (earlier.same, earlier.fold) != (row.same, row.fold):
            raise DataError(f"{row.where}: this pair is listed otherwise in {earlier.where}; remove one")
        repeated.append(f"line {row.where.rpartition(':')[2]}")
    return list(first.values()), repeated


def _identities(rows: list[Row], names: list[str]) -> dict[str, str]:
    """Identity of each image: its id, or the first image of those connected with it."""
    if rows[0].ids is not None:
        given: dict[str, str] = {}
        for row in rows:
            assert row.ids is not None
            for name, person in zip(row.images, row.ids, strict=True):
                if given.setdefault(name, person) != person:
                    raise DataError(f"{row.where}: {name} is {person!r} here and {given[name]!r} before")
        return given
    identity = first_connected(sorted(names), [row.images for row in rows if row.same])
    for row in rows:
        if not row.same and identity[row.images[0]] == identity[row.images[1]]:
            raise DataError(
                f"{row.where}: {row.images[0]} and {row.images[1]} are different here, "
                "but other lines make them the same"
            )
    return identity


def _folds(
    rows: list[Row], identity: dict[str, str], folds: int, seed: int, without_folds: str
) -> tuple[dict[str, int], str]:
    """The fold of each identity; where pairs cannot be scored so, also what gives folds in which they can.

    Args:
        rows: of different pairs.
        identity: of each image.
        folds: how many are dealt out where none are given.
        seed: of the deal.
        without_folds: how none are given.

    Raises:
        DataError: an identity is in two of the folds that are given.
    """
    people = sorted(set(identity.values()))
    order = sorted(people, key=lambda person: seed_at(seed, "fold", person))
    same = np.array([row.same for row in rows])
    owner = np.array([[identity[name] for name in row.images] for row in rows])

    def dealt(count: int) -> dict[str, int]:
        return {person: n % count for n, person in enumerate(order)}

    def scored(fold_of: dict[str, int]) -> bool:
        fold = np.vectorize(fold_of.get)(owner)
        return len(np.unique(fold)) > 1 and not why_not_scored(same, fold, owner)[0]

    most = min(folds, len(people))
    if rows[0].fold is None:
        fold_of = dealt(most)
        counts = (*range(most - 1, 1, -1), *range(most + 1, min(MOST_TRIED, len(people)) + 1))
        if scored(fold_of) or same.all() or not same.any():
            return fold_of, ""
        return fold_of, next((f"set data.folds={count}" for count in counts if scored(dealt(count))), "")
    way_out = without_folds if scored(dealt(most)) else ""
    numbers: dict[str | None, int] = {}
    fold_of = {}
    for row in rows:
        fold = numbers.setdefault(row.fold, len(numbers))
        for person in (identity[name] for name in row.images):
            if fold_of.setdefault(person, fold) != fold:
                raise DataError(
                    f"{row.where}: {person!r} is in fold {row.fold!r} and in another one before; "
                    "an identity must be in one fold only" + (f", or {way_out}" if way_out else "")
                )
    return fold_of, "" if scored(fold_of) else way_out
