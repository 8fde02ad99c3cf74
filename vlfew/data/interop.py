"""Convert torchvision and Hugging Face data sets to `LabeledImages`.

The result can be used wherever data of `load_data` can:

    dataset = torchvision.datasets.ImageFolder("pets")
    splits = split_by_class(torch.tensor(dataset.targets), dataset.classes, seed=0)
    data = vlfew.from_torchvision(dataset, model.spec.preprocessor(), name="pets", splits=splits)
    result = vlfew.evaluate(model, data, "few-shot", ways=5)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data.class_labels import LabelError, plain_labels
from vlfew.data.class_names import check_distinct_names, display_name, is_code, number_classes, unique_names
from vlfew.data.file_hashes import hash_bytes, hash_files
from vlfew.data.huggingface import (
    columns_that_fit,
    data_set_parts,
    is_image_feature,
    is_label_feature,
    kind_of,
    label_way_out,
)
from vlfew.data.image_files import DataFile, digest
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor, check_preprocessor
from vlfew.data.splits import split_named
from vlfew.data.torch_datasets import TorchImages, check_items, item_numbers, labels_and_classes

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def from_torchvision(
    dataset: Any,
    preprocessor: ImagePreprocessor,
    *,
    name: str = "torchvision",
    splits: Mapping[str, Sequence[int] | Tensor] | None = None,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """A torchvision classification data set, or any sequence of `(PIL image, label)`.

    Labels come from `targets`, `labels` or `_labels`, as in torchvision, or else from the items; class names from
    `classes` (which may be set by hand), or else they are the labels; both also through torch's `Subset` and
    `ConcatDataset`. `vlfew.data.class_names` decides whether names are text. The fingerprint covers labels, names,
    splits and, if they fit in memory, the pixels of the images.

    Args:
        dataset: built without a transform.
        preprocessor: size, channels and how to resize.
        name: of the data set, in results.
        splits: split name to item numbers (a list, range, array or tensor); None puts all items into a split `all`
            (`vlfew.data.splits.split_by_class` draws few-shot splits).
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: no data set of images by number, an item without the label of one class, splits that do not fit, or
            an image that cannot be read.
    """
    check_preprocessor(preprocessor)
    check_items(dataset, name)
    labels, classes = labels_and_classes(dataset, name)
    return _labeled(
        name,
        TorchImages(dataset),
        preprocessor,
        labels,
        classes,
        {"all": torch.arange(len(labels))} if splits is None else item_numbers(splits, len(labels), name),
        memory_limit_mb,
        identity=type(dataset).__name__,
    )


def from_huggingface(
    dataset: Dataset | DatasetDict,
    preprocessor: ImagePreprocessor,
    *,
    image: str = "image",
    label: str = "label",
    name: str = "huggingface",
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """A Hugging Face data set; the parts of a `DatasetDict` become splits (`validation` becomes `val`).

    A single `Dataset` becomes the split `all`. The fingerprint covers the encoded images, labels,
    class names and splits.

    Args:
        dataset: with a column of images (also as bytes) and one of labels: `ClassLabel`, text, whole numbers or truth
            values. A format or transform that was set is not used.
        preprocessor: size, channels and how to resize.
        image: column of images.
        label: column of labels.
        name: of the data set, in results.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: a stream, an unknown column, a column without images, a row without the label of one class, or an
            unreadable image.
    """
    from datasets import ClassLabel, Image, concatenate_datasets

    check_preprocessor(preprocessor)
    parts = data_set_parts(dataset, name)
    for part, rows in parts.items():
        for column in (image, label):
            if not isinstance(column, str) or column not in rows.features:
                raise DataError(
                    f"{name} {part!r} has no column {column!r}{did_you_mean(str(column), rows.features)}"
                )
        if not is_image_feature(found := rows.features[image]):
            raise DataError(
                f"{name} {part!r}: column {image!r} contains {kind_of(found)}, not images"
                f"{columns_that_fit(rows.features, is_image_feature)}"
            )
    labels = [value for part in parts for value in _labels(parts, part, label, name)]
    # Formats and transforms are dropped; nor is anything decoded here: all images go through `read_image`, which
    # handles orientation, 16 bits and transparency.
    plain = {
        part: rows.with_format(None).select_columns([image, label]).cast_column(image, Image(decode=False))
        for part, rows in parts.items()
    }
    try:
        joined = concatenate_datasets([*plain.values()])
    except ValueError:
        raise DataError(
            f"{name}: {', '.join(parts)} do not have the same classes or kinds of column"
        ) from None
    feature = joined.features[label]
    numbers = torch.arange(len(joined)).split([len(rows) for rows in parts.values()])
    splits = [split_named(part) or part for part in parts]
    if twice := [part for part, split in zip(parts, splits, strict=True) if splits.count(split) > 1]:
        raise DataError(
            f"{name}: {' and '.join(twice)} are parts for the same split; join them or leave one out"
        )
    return _labeled(
        name,
        _Encoded(joined.select_columns([image]), image),
        preprocessor,
        labels,
        feature.names if isinstance(feature, ClassLabel) else None,
        dict(zip(splits, numbers, strict=True)),
        memory_limit_mb,
        hashes=_content_hashes(joined, image),
    )


def _labels(parts: Mapping[str, Dataset], part: str, label: str, name: str) -> list[Any]:
    """The labels of a part, plain.

    Raises:
        DataError: a row without the label of one class; names the part, the column, the first row and a way out.
    """
    from datasets import ClassLabel, Image

    rows = parts[part].with_format(None)
    feature, others = rows.features[label], {k: f for k, f in rows.features.items() if k != label}
    fitting = columns_that_fit(others, is_label_feature)
    where = f"{name} {part!r}: column {label!r}"
    if isinstance(feature, Image):
        raise DataError(f"{where} contains images, not labels{fitting}")
    try:
        return plain_labels(rows[label], "row", -1 if isinstance(feature, ClassLabel) else None)
    except LabelError as error:
        raise DataError(f"{where}: {error}{fitting}; {label_way_out(error, parts, part, label)}") from None


def _content_hashes(rows: Dataset, image: str) -> list[int]:
    """64-bit hash of each encoded image, in the table or in its file; 0 if it is missing."""
    import pyarrow.compute as compute

    hashes: list[int] = []
    paths_of: dict[int, str] = {}
    for table in rows.select_columns([image]).with_format("arrow").iter(1000):
        for images in table.column(image).chunks:
            paths = compute.struct_field(images, "path").to_pylist()
            for content, path in zip(compute.struct_field(images, "bytes"), paths, strict=True):
                if content.is_valid:
                    hashes.append(hash_bytes(memoryview(content.as_buffer())))
                    continue
                if path and os.path.isfile(path):
                    paths_of[len(hashes)] = os.path.abspath(path)
                hashes.append(0)
    if paths_of:
        folder = Path(os.path.commonpath([os.path.dirname(path) for path in paths_of.values()]))
        files = [DataFile.at(folder, os.path.relpath(path, folder)) for path in paths_of.values()]
        for number, value in zip(paths_of, hash_files(files), strict=True):
            hashes[number] = value
    return hashes


class _Encoded:
    """The images of an undecoded Hugging Face column: bytes, or the path of a file.

    Accessed by row: a column object of the library creates a new table for every item.
    """

    def __init__(self, rows: Dataset, column: str) -> None:
        self.rows, self.column = rows, column

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        image = self.rows[number][self.column]
        if image is None:
            raise ValueError("no image in this row")
        return Path(image["path"]) if image["bytes"] is None else image["bytes"]


def _labeled(
    name: str,
    images: Any,
    preprocessor: ImagePreprocessor,
    targets: Sequence[Any],
    known: Sequence[Any] | None,
    splits: Mapping[str, Tensor],
    memory_limit_mb: int,
    *,
    identity: object = None,
    hashes: Sequence[int] | None = None,
) -> LabeledImages:
    """A data set of images by number and their classes.

    Args:
        targets: class of each image, as `plain_labels` gives it; its number if the classes are known.
        known: names of the classes, or tuples of synonyms; None if the classes are the distinct targets.
        identity: what the fingerprint covers besides labels, names and splits.
        hashes: of the content of each image; None if it is unknown.
    """
    values, labels = number_classes(targets)
    if known is None:
        check_distinct_names((value for value in values if isinstance(value, str)), name)
    if known:
        values, labels = [*known], torch.tensor(targets, dtype=torch.int64)
    # A class of torchvision's ImageNet is a tuple of synonyms.
    given = [value if isinstance(value, tuple) else (value,) for value in values]
    names = list(unique_names([display_name(str(own[0])) for own in given], range(len(given))))
    # Numbers and truth values are codes.
    texts = [tuple(display_name(t) for t in own if isinstance(t, str) and not is_code(t)) for own in given]

    store, numbers, skipped, _ = load_images(images, preprocessor, name, memory_limit_mb, hashes)
    content = store.hashes if hashes is None else torch.tensor(hashes)
    position = torch.full((len(labels),), -1)
    position[numbers] = torch.arange(len(numbers))
    moved = {split: position[index].sort().values for split, index in splits.items()}
    in_split = {split: index[index >= 0] for split, index in moved.items()}
    drawn = sorted((split, index.tolist()) for split, index in in_split.items())
    return LabeledImages(
        name=name,
        images=store,
        labels=labels[numbers],
        class_names=tuple(names),
        splits=in_split,
        fingerprint=digest(
            identity,
            None if content is None else content.tolist(),
            labels.tolist(),
            names,
            drawn,
            numbers.tolist(),
        ),
        class_texts=tuple(texts),
        skipped=skipped,
    )
