"""Convert torchvision and Hugging Face data sets to `LabeledImages`.

The result can be used wherever data of `load_data` can:

    dataset = torchvision.datasets.ImageFolder("pets")
    splits = split_by_class(torch.tensor(dataset.targets), dataset.classes, seed=0)
    data = vlfew.from_torchvision(dataset, model.spec.preprocessor(), name="pets", splits=splits)
    result = vlfew.evaluate(model, data, "few-shot", ways=5)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data.class_names import display_name, is_code, number_classes, unique_names
from vlfew.data.file_hashes import hash_bytes, hash_files
from vlfew.data.image_files import DataFile, digest
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import split_named

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def from_torchvision(
    dataset: Any,
    preprocessor: ImagePreprocessor,
    *,
    name: str = "torchvision",
    splits: Mapping[str, Tensor] | None = None,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """A torchvision classification data set, or any sequence of `(PIL image, label)`.

    Labels come from `targets`, `labels` or `_labels`, as in torchvision, or else from the items; class names from
    `classes` (which may be set by hand), or else they are the labels. `vlfew.data.class_names` decides whether they are
    text. The fingerprint covers labels, names, splits and, if they fit in memory, the pixels of the images.

    Args:
        dataset: built without a transform.
        preprocessor: size, channels and how to resize.
        name: of the data set, in results.
        splits: split name to item numbers; None puts all items into a split `all` (`vlfew.data.splits.split_by_class`
            draws few-shot splits).
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: no labels, or an image that cannot be read.
    """
    targets = next(
        (t for a in ("targets", "labels", "_labels") if (t := getattr(dataset, a, None)) is not None), None
    )
    if targets is None:
        targets = [dataset[n][1] for n in range(len(dataset))]
    return _labeled(
        name,
        _Images(dataset),
        preprocessor,
        [target.item() if hasattr(target, "item") else target for target in targets],
        getattr(dataset, "classes", None),
        {"all": torch.arange(len(targets))} if splits is None else splits,
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
        dataset: with a column of images and one of labels (`ClassLabel`, text or integers).
        preprocessor: size, channels and how to resize.
        image: column of images.
        label: column of labels.
        name: of the data set, in results.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: an unknown column, a column without images, or an unreadable image.
    """
    from datasets import ClassLabel, DatasetDict, Image, concatenate_datasets

    parts = dict(dataset) if isinstance(dataset, DatasetDict) else {"all": dataset}
    for part, rows in parts.items():
        for column in (image, label):
            if column not in rows.features:
                raise DataError(
                    f"{name} {part!r} has no column {column!r}{did_you_mean(column, rows.features)}"
                )
        if not isinstance(rows.features[image], Image):
            raise DataError(f"{name} {part!r}: column {image!r} contains {rows.features[image]}, not images")
    try:
        joined = concatenate_datasets([rows.select_columns([image, label]) for rows in parts.values()])
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
    # Not decoded here: all images go through `read_image`, which handles orientation, 16 bits and transparency.
    encoded = joined.select_columns([image]).cast_column(image, Image(decode=False))
    return _labeled(
        name,
        _Encoded(encoded, image),
        preprocessor,
        joined[label][:],
        feature.names if isinstance(feature, ClassLabel) else None,
        dict(zip(splits, numbers, strict=True)),
        memory_limit_mb,
        hashes=_content_hashes(joined, image),
    )


def _content_hashes(rows: Dataset, image: str) -> list[int]:
    """64-bit hash of each encoded image, in the table or in its file; 0 if it is missing."""
    import pyarrow.compute as compute

    hashes: list[int] = []
    files: dict[int, DataFile] = {}
    for table in rows.select_columns([image]).with_format("arrow").iter(1000):
        for images in table.column(image).chunks:
            paths = compute.struct_field(images, "path").to_pylist()
            for content, path in zip(compute.struct_field(images, "bytes"), paths, strict=True):
                if content.is_valid:
                    hashes.append(hash_bytes(memoryview(content.as_buffer())))
                    continue
                if path and Path(path).is_file():
                    files[len(hashes)] = DataFile.at(Path(path).parent, Path(path).name)
                hashes.append(0)
    for number, value in zip(files, hash_files(list(files.values())), strict=True):
        hashes[number] = value
    return hashes


class _Images:
    """The images of a sequence of `(image, label)`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        from PIL.Image import Image

        image = self.dataset[number][0]
        if not isinstance(image, Image):
            raise TypeError(
                f"expected a Pillow image, got {type(image).__name__}; build it without a transform"
            )
        return image


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
        targets: class of each image: a number if the classes are known, otherwise its name.
        known: names of the classes, or synonyms of each; None if they are the distinct targets.
        identity: what the fingerprint covers besides labels, names and splits.
        hashes: of the content of each image; None if it is unknown.
    """
    for n, target in enumerate(targets):
        if target is None or (known and not -1 < target < len(known)):
            raise DataError(f"{name}[{n}]: {target!r} is not the label of a class")
    values, labels = number_classes(targets)
    given = [(str(value),) for value in values]
    if known:
        labels = torch.tensor(targets, dtype=torch.int64)
        # A class of torchvision's ImageNet is a tuple of synonyms.
        given = [(k,) if isinstance(k, str) else tuple(k) for k in known]
    names = list(unique_names([display_name(own[0]) for own in given], range(len(given))))
    texts = [tuple(display_name(t) for t in own if not is_code(t)) for own in given]

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
            identity, None if content is None else content.tolist(), labels.tolist(), names, drawn, skipped
        ),
        class_texts=tuple(texts),
        skipped=skipped,
    )
