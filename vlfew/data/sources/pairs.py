"""pairs: your own verification pairs, a CSV of two images and whether they show the same identity.

Columns `first`, `second` (paths relative to the CSV) and `same` (1 or 0, true or false).
Optional columns: `first_id` and `second_id`, the identities; `fold`, in which the pair is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

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
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLITS
from vlfew.data.table_files import FileLookup, read_rows

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
    """Your own image pairs for verification; all are in the split `test` unless a fold is given.

    With a `fold`, identities and pairs of that fold are for testing, those of the next fold for validation and those of
    the other folds for training. Pairs across splits are omitted and counted.

    Classes are the identities: given as ids, or else connected by same pairs. Without a column `fold`, identities are
    distributed over folds by `preprocessor.seed`, and the threshold of a pair is chosen only on pairs that share no
    fold with either of its images.

    Args:
        root: folder of the CSV file; None searches the usual places.
        preprocessor: size, channels and how to resize.
        file: name of the CSV file.
        folds: number of folds of identities; at most as many as there are identities.
        fold: test fold, if the other folds are for training, or `all`.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: missing columns; a line with a missing image, that contradicts others, or puts an identity into a
            second fold; a fold that does not exist, or fewer than 3.
    """
    path = find_data("pairs", root, prepared=False) / file
    listed = list(_rows(path))
    if not listed:
        raise DataError(f"{path}: contains no pairs")
    rows, repeated = _once(listed)
    names = list(dict.fromkeys(name for row in rows for name in row.images))
    identity = _identities(rows, names)
    people = sorted(set(identity.values()))
    fold_of = _folds(rows, identity, people, folds, preprocessor.seed)

    files = [DataFile.at(path.parent, name) for name in names]
    skipping = replace(preprocessor, on_bad_image="skip")  # reported here, with the line of the pair
    images, _, skipped, hashes = load_images(files, skipping, "reading images", memory_limit_mb)
    for row in rows:
        if unreadable := [name for name in row.images if name in skipped]:
            raise DataError(f"{row.where}: {unreadable[0]} cannot be read; repair it, or remove the line")
    at = {name: n for n, name in enumerate(names)}
    i, j = torch.tensor([[at[name] for name in row.images] for row in rows]).T
    folded = torch.tensor([[fold_of[identity[name]] for name in row.images] for row in rows])
    all_pairs = Pairs(i, j, torch.tensor([row.same for row in rows]), folded)
    splits, pairs = {"test": torch.arange(len(names))}, {"test": all_pairs}
    notes = [f"pairs that are listed again, counted once: {first_names(repeated)}"] if repeated else []
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
    lookup = FileLookup((file.name for file in list_files(path.parent)), path.parent)
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
        first, second = map(str, found)
        if first == second:
            raise DataError(f"{where}: {first} is paired with itself")
        ids = (fields[IDS[0]], fields[IDS[1]]) if IDS[0] in fields else None
        if ids is not None and (not all(ids) or (ids[0] == ids[1]) != same):
            raise DataError(f"{where}: same is {int(same)}, but the ids are {ids[0]!r} and {ids[1]!r}")
        if fields.get("fold") == "":
            raise DataError(f"{where}: empty fold; fill it in, or remove the column")
        yield Row(where, (first, second), same, ids, fields.get("fold"))


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
    rows: list[Row], identity: dict[str, str], people: list[str], folds: int, seed: int
) -> dict[str, int]:
    """The fold of each identity."""
    if rows[0].fold is None:
        order = sorted(people, key=lambda person: seed_at(seed, "fold", person))
        count = min(folds, len(people))
        return {person: n % count for n, person in enumerate(order)}
    numbers: dict[str | None, int] = {}
    fold_of: dict[str, int] = {}
    for row in rows:
        fold = numbers.setdefault(row.fold, len(numbers))
        for person in (identity[name] for name in row.images):
            if fold_of.setdefault(person, fold) != fold:
                raise DataError(
                    f"{row.where}: {person!r} is in fold {row.fold!r} and in another one before; "
                    "an identity must be in one fold only"
                )
    return fold_of
