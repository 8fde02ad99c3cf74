"""hf:NAME: a Hugging Face data set of labeled images, on the disk or from the hub."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.core.errors import DataError, did_you_mean, first_line
from vlfew.core.progress import progress
from vlfew.data.huggingface import PREFIX, open_hub, open_local
from vlfew.data.huggingface import image_column as find_image_column
from vlfew.data.huggingface import label_column as find_label_column
from vlfew.data.image_files import digest
from vlfew.data.interop import from_huggingface
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import split_by_class, too_few_note

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def load(
    name: str,
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    parts: list[str] | None = None,
    own_splits: bool = False,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    streaming: bool = False,
    take: int | None = None,
    download: bool = False,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """The images of all parts, their classes drawn into train, val and test from `preprocessor.seed`.

    The parts that a data set comes in mostly share their classes, and few-shot splits must not; where
    they do not, `own_splits` takes them as they are. Classes without an image are left out.

    Args:
        name: an image folder, a folder that `save_to_disk` wrote, parquet or arrow files in a folder or
            one of them; else a data set of the hub.
        root: must be None: the name says where the data lie.
        preprocessor: how to read the images.
        image_column: the column of images; found by its type where there is only one.
        label_column: the column of labels; found by its type where there is only one.
        config: which of its configurations.
        revision: a branch, tag or commit of the hub's.
        parts: which of its parts to read; all if not given.
        own_splits: its parts are the splits (`validation` is `val`).
        val_fraction: of the classes, where splits are drawn.
        test_fraction: of the classes, where splits are drawn.
        streaming: reads the first `take` images of each part and no more; they are not kept.
        take: how many images of each part to read; all if not given.
        download: whether what is not in the library's cache may be fetched from the hub.
        memory_limit_mb: larger sets (decoded, in MiB) are decoded as they are asked for.

    Raises:
        DataError: not there and not to be downloaded; no such part or column, or several that could be
            meant; parts that share classes; too few classes; an image that cannot be read.
    """
    who = PREFIX + name
    if root is not None:
        raise DataError(f"{who} says where its data lie; leave data.root ({root}) out")
    if take is not None and take < 1:
        raise DataError(f"{who}: take={take} must be at least 1")
    if streaming and take is None:
        raise DataError(f"{who}: streaming needs take, the number of images to read of each part")
    found = _open(name, config, revision, download, streaming)
    if unknown := [part for part in parts or () if part not in found]:
        raise DataError(f"{who}: no part {unknown[0]!r}{did_you_mean(unknown[0], found)}")
    found = {part: rows for part, rows in found.items() if part in (parts or found)}
    features = next(iter(found.values())).features
    if features is None:
        raise DataError(f"{who} does not tell its columns before it is read; leave streaming out")
    image = find_image_column(features, image_column, who)
    label = find_label_column(features, label_column, who)
    taken, notes = {}, []
    for part, rows in found.items():
        taken[part] = rows if take is None else _first(rows, image, label, take, f"{who} {part}")
        if take is not None and (streaming or take < len(rows)):
            notes.append(f"the first {len(taken[part]):,} images of {part}")
    data = _occupied(
        from_huggingface(
            _as_dict(taken), preprocessor, image=image, label=label, name=who, memory_limit_mb=memory_limit_mb
        )
    )
    if own_splits:
        _check_disjoint(data)
        splits = data.splits
    else:
        splits = split_by_class(
            data.labels,
            data.class_names,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=preprocessor.seed,
        )
        if note := too_few_note(len(data.class_names), splits):
            notes.append(note)
    drawn = {split: index.tolist() for split, index in splits.items()}
    return replace(data, splits=splits, fingerprint=digest(data.fingerprint, drawn), note="; ".join(notes))


def _open(name: str, config: str | None, revision: str | None, download: bool, streaming: bool) -> Any:
    place = Path(name).expanduser()
    if place.exists():
        if revision is not None:
            raise DataError(f"{PREFIX}{name} lies on the disk, where it has no revisions; leave revision out")
        return open_local(place, config, streaming=streaming)
    if place.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise DataError(f"{PREFIX}{name}: no such file or folder")
    return open_hub(name, config, revision, download=download, streaming=streaming)


def _as_dict(parts: dict[str, Dataset]) -> DatasetDict:
    from datasets import DatasetDict

    return DatasetDict(parts)


def _first(rows: Any, image: str, label: str, take: int, what: str) -> Dataset:
    """The first rows, encoded as they are; those of a stream are read now and held in memory."""
    from datasets import Dataset, Image
    from datasets.utils.file_utils import xopen

    if isinstance(rows, Dataset):
        return rows.select(range(min(take, len(rows))))
    features = rows.select_columns([image, label]).features
    encoded = rows.select_columns([image, label]).cast_column(image, Image(decode=False)).take(take)
    read = []
    try:
        for row in progress(encoded, f"reading {what}", take, "images"):
            value = row[image]
            if value is not None and value["bytes"] is None:
                # What cannot be opened keeps its path, by which it is named later.
                with suppress(OSError), xopen(value["path"], "rb") as file:
                    row[image] = {"bytes": file.read(), "path": None}
            read.append(row)
    except Exception as error:  # the library and its transport raise many unrelated types
        raise DataError(f"{what}: cannot be streamed: {first_line(error)}") from None
    return Dataset.from_list(read, features=features)


def _occupied(data: LabeledImages) -> LabeledImages:
    """`data` without the classes that have no image."""
    there, labels = data.labels.unique(return_inverse=True)
    if len(there) == len(data.class_names):
        return data
    return replace(
        data,
        labels=labels,
        class_names=tuple(data.class_names[n] for n in there.tolist()),
        class_texts=tuple(data.class_texts[n] for n in there.tolist()),
    )


def _check_disjoint(data: LabeledImages) -> None:
    for one, other in combinations(data.splits, 2):
        try:
            data.check_disjoint_classes(one, other)
        except DataError as error:
            raise DataError(f"{error}; leave own_splits out to draw them by class") from None
