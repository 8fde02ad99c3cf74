"""pairs: your own verification pairs, a CSV of two images and whether they show the same.

Columns `first`, `second` (paths, from the folder of the file) and `same` (1 or 0, true or false).
Optional: `first_id` and `second_id`, who is in the images; `fold`, in which the pair is scored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.random import seed_at
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, digest
from vlfew.data.image_stores import hold
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.table_files import rows_csv

_SAME = dict.fromkeys(("1", "true", "yes", "same"), True) | dict.fromkeys(
    ("0", "false", "no", "different"), False
)
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
    """The images that the pairs name, all of them the split `test` unless there is to be training.

    With a `fold`, the identities of that fold and the pairs among them are for testing, those of the
    next one for validation, and those of the others for training. Pairs across these are left out, and
    counted.

    Classes are the identities: given as ids, else images joined by pairs that are the same. Without
    a column `fold`, identities are dealt into folds by `preprocessor.seed`, and a threshold for a pair is
    then chosen only on pairs that share no fold with either of its images.

    Args:
        root: folder of the CSV file; None looks where data lie.
        preprocessor: how to read the images.
        file: the CSV file in it.
        folds: of identities; at most as many as there are.
        fold: which is for testing, where some are to be trained on.
        memory_limit_mb: larger sets (decoded, in MiB) are decoded as they are asked for.

    Raises:
        DataError: columns are missing; a line names an image that is not there, contradicts the
            others, or puts an identity into a second fold; a fold that there is not, or fewer than 3.
    """
    path = find_data("pairs", root, prepared=False) / file
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path}: no pairs in it")
    names = list(dict.fromkeys(name for row in rows for name in row.images))
    identity = _identities(rows, names)
    people = sorted(set(identity.values()))
    fold_of = _folds(rows, identity, people, folds, preprocessor.seed)

    files = [_file(path.parent, name) for name in names]
    images, kept, skipped = hold(files, preprocessor, "reading images", memory_limit_mb)
    at = {names[n]: place for place, n in enumerate(kept.tolist())}
    for row in rows:
        lost = next((name for name in row.images if name not in at), None)
        if lost:
            raise DataError(f"{row.where}: {lost} cannot be read, and pairs are never left out")
    number = {person: n for n, person in enumerate(people)}
    folded = torch.tensor([[fold_of[identity[name]] for name in row.images] for row in rows])
    every = Pairs(
        torch.tensor([at[row.images[0]] for row in rows]),
        torch.tensor([at[row.images[1]] for row in rows]),
        torch.tensor([row.same for row in rows]),
        folded,
    )
    splits, pairs, note = {"test": torch.arange(len(at))}, {"test": every}, ""
    if fold != "all":
        fold_of_image = torch.tensor([fold_of[identity[name]] for name in at])
        splits, pairs = _parted(every, fold_of_image, fold, f"{path}")
        left_out = len(every) - sum(map(len, pairs.values()))
        note = f"{left_out:,} of {len(every):,} pairs lie across splits and are left out" * (left_out > 0)
    return LabeledImages(
        name="pairs",
        images=images,
        labels=torch.tensor([number[identity[name]] for name in at]),
        class_names=tuple(people),
        names_are_text=False,
        splits=splits,
        fingerprint=digest(
            [(f.name, f.size) for f in files],
            [(*r.images, r.same) for r in rows],
            folded.tolist(),
            *(() if fold == "all" else (fold,)),
        ),
        image_names=tuple(at),
        pairs=pairs,
        skipped=skipped,
        note=note,
    )


def _parted(
    every: Pairs, fold_of_image: Tensor, fold: int, where: str
) -> tuple[dict[str, Tensor], dict[str, Pairs]]:
    """Images and pairs of each split, by the folds of the identities."""
    count = int(fold_of_image.max()) + 1
    if count < 3 or fold > count:
        raise DataError(
            f"{where}: fold={fold} of {count} folds; training takes at least 3, for test, validation and training"
        )
    part = torch.zeros(count, dtype=torch.int64)
    part[fold - 1], part[fold % count] = 2, 1
    splits, pairs = {}, {}
    for number, split in enumerate(("train", "val", "test")):
        splits[split] = (part[fold_of_image] == number).nonzero().flatten()
        own = (part[every.fold] == number).all(dim=1)
        # Of training the folds play no part any more, and of the others there is one.
        pairs[split] = Pairs(every.i[own], every.j[own], every.same[own], torch.zeros_like(every.fold[own]))
    return splits, pairs


@dataclass(frozen=True)
class Row:
    """A line of the file.

    Attributes:
        where: `file:line`.
        images: the two paths, as they stand there.
        same: whether they show the same.
        ids: who is in them, where it says so.
        fold: where it says so.
    """

    where: str
    images: tuple[str, str]
    same: bool
    ids: tuple[str, str] | None
    fold: str | None


def _rows(path: Path) -> Iterator[Row]:
    columns = f"{', '.join(NEEDED)} (and {' and '.join(IDS)} together)"
    if not path.is_file():
        raise DataError(f"{path}: no such file; it must be a CSV with the columns {columns}")
    optional: set[str] | None = None
    for line, values in rows_csv(path):
        where = f"{path}:{line}"
        told = {key.strip(): value.strip() for key, value in values.items()}
        if any(name not in told for name in NEEDED) or len(told.keys() & set(IDS)) == 1:
            raise DataError(f"{where}: the columns must be {columns}; found {', '.join(told)}")
        own = told.keys() & {*IDS, "fold"}
        if own != (optional := own if optional is None else optional):
            raise DataError(
                f"{where}: {', '.join(sorted(optional - own))} is missing; give it for every pair"
            )
        same = _SAME.get(told["same"].lower())
        if same is None:
            raise DataError(f"{where}: same must be 1 or 0, not {told['same']!r}")
        for name in (told["first"], told["second"]):
            if not name or "\0" in name or not (path.parent / name).is_file():
                raise DataError(f"{where}: there is no image {name!r} in {path.parent}")
        # One image has one name, however its path is written.
        first, second = (os.path.normpath(told[which]) for which in ("first", "second"))
        if first == second:
            raise DataError(f"{where}: {first} is paired with itself")
        ids = (told[IDS[0]], told[IDS[1]]) if IDS[0] in told else None
        if ids is not None and (not all(ids) or (ids[0] == ids[1]) != same):
            raise DataError(f"{where}: same is {int(same)}, but the ids are {ids[0]!r} and {ids[1]!r}")
        if told.get("fold") == "":
            raise DataError(f"{where}: no fold; name one, or leave the column out")
        yield Row(where, (first, second), same, ids, told.get("fold"))


def _identities(rows: list[Row], names: list[str]) -> dict[str, str]:
    """Image to who is in it: its id, or the first image of those joined with it."""
    identity = {name: name for name in names}

    def first(name: str) -> str:
        while identity[name] != name:
            identity[name] = identity[identity[name]]
            name = identity[name]
        return name

    if rows[0].ids is not None:
        found: dict[str, str] = {}
        for row in rows:
            assert row.ids is not None
            for name, person in zip(row.images, row.ids, strict=True):
                if found.setdefault(name, person) != person:
                    raise DataError(f"{row.where}: {name} is {person!r} here and {found[name]!r} before")
        return found
    for row in rows:
        if row.same:
            one, other = sorted((first(row.images[0]), first(row.images[1])))
            identity[other] = one
    for row in rows:
        if not row.same and first(row.images[0]) == first(row.images[1]):
            raise DataError(
                f"{row.where}: {row.images[0]} and {row.images[1]} are different here, "
                "but other lines make them the same"
            )
    return {name: first(name) for name in names}


def _folds(
    rows: list[Row], identity: dict[str, str], people: list[str], folds: int, seed: int
) -> dict[str, int]:
    """Identity to fold."""
    if rows[0].fold is None:
        order = sorted(people, key=lambda person: seed_at(seed, "fold", person))
        count = min(folds, len(people))
        return {person: n % count for n, person in enumerate(order)}
    numbers: dict[str | None, int] = {}
    found: dict[str, int] = {}
    for row in rows:
        fold = numbers.setdefault(row.fold, len(numbers))
        for person in (identity[name] for name in row.images):
            if found.setdefault(person, fold) != fold:
                raise DataError(
                    f"{row.where}: {person!r} is in fold {row.fold!r} and in another one before; "
                    "whoever is in a fold must be in no other"
                )
    return found


def _file(folder: Path, name: str) -> DataFile:
    stat = (folder / name).stat()
    return DataFile(name, stat.st_size, stat.st_mtime_ns, folder)
