"""hf:NAME: a Hugging Face data set of labeled images, on disk or from the hub."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vlfew.core.errors import DataError, did_you_mean, first_line
from vlfew.core.paths import user_path
from vlfew.core.plurals import counted
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
    from datasets import Dataset


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
    take: Annotated[int, Field(ge=1)] | None = None,
    download: bool = False,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """A Hugging Face data set of labeled images; classes are drawn into train, val and test.

    The parts of a data set usually share their classes, and few-shot splits must not; if they do not, `own_splits` uses
    the parts as splits. Classes without images are omitted.

    Args:
        name: an image folder, a folder written by `save_to_disk`, parquet or arrow files in a folder or one such file;
            or else a data set of the hub.
        root: must be None: the name is the location.
        preprocessor: size, channels and how to resize; its seed draws the splits.
        image_column: column of images; found by its type if there is only one.
        label_column: column of labels; found by its type if there is only one.
        config: configuration of the data set.
        revision: branch, tag or commit on the hub.
        parts: parts to read; by default all.
        own_splits: use the parts as splits (`validation` is `val`).
        val_fraction: fraction of the classes for validation, where splits are drawn.
        test_fraction: fraction of the classes for testing, where splits are drawn.
        streaming: read only the first `take` images of each part, without storing them.
        take: number of images of each part to read; by default all.
        download: download what is not in the library's cache.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: missing and not to be downloaded; an unknown part or column, or an ambiguous one; parts that share
            classes; too few classes; an unreadable image.
    """
    from datasets import DatasetDict

    who = PREFIX + name
    if root is not None:
        raise DataError(f"{who} names its own location; leave out data.root ({root})")
    if streaming and take is None:
        raise DataError(f"{who}: streaming needs take, the number of images per part")
    dataset = _open(name, config, revision, download, streaming)
    if unknown := [part for part in parts or () if part not in dataset]:
        raise DataError(f"{who}: no part {unknown[0]!r}{did_you_mean(unknown[0], dataset)}")
    dataset = {part: rows for part, rows in dataset.items() if part in (parts or dataset)}
    features = next(iter(dataset.values())).features
    if features is None:
        raise DataError(f"{who} has no known columns before it is read; leave out streaming")
    image = find_image_column(features, image_column, who)
    label = find_label_column(features, label_column, who)
    taken, notes = {}, []
    for part, rows in dataset.items():
        taken[part] = rows if take is None else _first(rows, image, label, take, f"{who} {part}")
        if take is not None and (streaming or take < len(rows)):
            notes.append(f"the first {counted(len(taken[part]), 'image')} of {part}")
    data = from_huggingface(
        DatasetDict(taken), preprocessor, image=image, label=label, name=who, memory_limit_mb=memory_limit_mb
    )
    data = _without_empty_classes(data)
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
    place = user_path(name)
    if place.exists():
        if revision is not None:
            raise DataError(f"{PREFIX}{name} is on disk, where it has no revisions; leave out revision")
        return open_local(place, config, streaming=streaming)
    if place.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise DataError(f"{PREFIX}{name}: no such file or folder")
    return open_hub(name, config, revision, download=download, streaming=streaming)


def _first(rows: Any, image: str, label: str, take: int, what: str) -> Dataset:
    """The first rows, still encoded; those of a stream are read now and held in memory."""
    from datasets import Dataset, Image
    from datasets.utils.file_utils import xopen

    if isinstance(rows, Dataset):
        return rows.select(range(min(take, len(rows))))
    columns = rows.select_columns([image, label])
    encoded = columns.cast_column(image, Image(decode=False)).take(take)
    read = []
    try:
        for row in progress(encoded, f"reading {what}", take, "images"):
            value = row[image]
            if value is not None and value["bytes"] is None:
                # An unreadable file keeps its path, for the message later.
                with suppress(OSError), xopen(value["path"], "rb") as file:
                    row[image] = {"bytes": file.read(), "path": None}
            read.append(row)
    except Exception as error:  # the library and its transport raise many unrelated types
        raise DataError(f"{what}: cannot be streamed: {first_line(error)}") from None
    return Dataset.from_list(read, features=columns.features)


def _without_empty_classes(data: LabeledImages) -> LabeledImages:
    """`data` without classes that have no images."""
    present, labels = data.labels.unique(return_inverse=True)
    if len(present) == len(data.class_names):
        return data
    return replace(
        data,
        labels=labels,
        class_names=tuple(data.class_names[n] for n in present.tolist()),
        class_texts=tuple(data.class_texts[n] for n in present.tolist()),
    )


def _check_disjoint(data: LabeledImages) -> None:
    for one, other in combinations(data.splits, 2):
        try:
            data.check_disjoint_classes(one, other)
        except DataError as error:
            raise DataError(f"{error}; leave out own_splits to draw the splits by class") from None
