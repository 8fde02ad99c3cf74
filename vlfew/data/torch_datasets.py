"""Items of torch data sets: images, labels and class names, also through `Subset` and `ConcatDataset`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from vlfew.core.errors import DataError, describe_value, first_line
from vlfew.core.plurals import first_names
from vlfew.data.class_labels import LabelError, plain_labels
from vlfew.data.class_names import check_distinct_names
from vlfew.data.splits import SPLITS


class TorchImages:
    """The images of a sequence of `(image, label)`, by number."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        item = self.dataset[number]
        if (why := _not_an_item(item)) is not None:
            raise TypeError(why)
        return item[0]


def check_items(dataset: Any, name: str) -> None:
    """Checks that this is a data set of `(Pillow image, label)` by number; only the first item is read.

    Raises:
        DataError: something else; says what to pass instead.
    """
    kind = type(dataset).__name__
    if isinstance(dataset, type):
        raise DataError(
            f"{name}: expected a data set, got the class {dataset.__name__}; build one of it first"
        )
    if isinstance(dataset, torch.utils.data.DataLoader):
        raise DataError(
            f"{name}: expected a data set, got a DataLoader; pass its .dataset, without a transform"
        )
    indexed = hasattr(dataset, "__getitem__")
    if isinstance(dataset, str | bytes | dict) or not (indexed or hasattr(dataset, "__iter__")):
        raise DataError(
            f"{name}: expected a data set of (Pillow image, label), got {describe_value(dataset)}"
        )
    iterable_only = isinstance(dataset, torch.utils.data.IterableDataset)
    if iterable_only or not indexed or not hasattr(dataset, "__len__"):
        raise DataError(f"{name}: a {kind} does not give items by number; pass a list of them: [*dataset]")
    try:
        count = len(dataset)
    except Exception as error:
        raise DataError(f"{name}: a {kind} without a length: {first_line(error)}") from None
    if count == 0:
        raise DataError(f"{name}: there are no images in this {kind}")
    try:
        item = dataset[0]
    except Exception:  # an image that cannot be read, which is for `on_bad_image`
        return
    if (why := _not_an_item(item)) is not None:
        raise DataError(f"{name}[0]: {why}")


def _not_an_item(item: Any) -> str | None:
    """Why this is no `(Pillow image, label)`, and what to do; None if it is."""
    from PIL.Image import Image

    if isinstance(item, dict):
        return "expected (image, label), got a dict; vlfew.from_huggingface takes Hugging Face data sets"
    if not isinstance(item, Sequence) or isinstance(item, str | bytes) or len(item) < 2:
        return f"expected (Pillow image, label), got {describe_value(item)}"
    if isinstance(item[0], Image):
        return None
    return (
        f"expected a Pillow image, got {type(item[0]).__name__}; build the data set without a transform, "
        "or give images as PIL.Image.fromarray(uint8 array [H, W, 3]) does"
    )


def labels_and_classes(dataset: Any, name: str) -> tuple[list[Any], list[Any] | None]:
    """The label of each item, and the names of the classes (or synonyms of each) where the data set has them.

    Parts of a `ConcatDataset` with other lists of classes are matched by name.

    Raises:
        DataError: a missing label, one of no class, or one that cannot be read.
    """
    if changed := _transforms(dataset):
        raise DataError(
            f"{name}: {changed[0]} would change what is compared, and images are resized here; build the data set "
            "without it"
        )
    try:
        items = _items(dataset)
    except (TypeError, IndexError, ValueError) as error:
        raise DataError(f"{name}: indices of a Subset do not fit its data set: {first_line(error)}") from None
    sources = {id(source): source for source, _ in items}
    targets = {key: _targets(source) for key, source in sources.items()}
    given = _class_names(dataset, name)  # also of a Subset, where they may be set by hand
    classes = {key: given or _class_names(source, name) for key, source in sources.items()}
    values = []
    for n, (source, number) in enumerate(items):
        try:
            known = targets[id(source)]
            values.append(dataset[n][1] if known is None else known[number])
        except Exception as error:  # a foreign data set may read files here and fail in any way
            raise DataError(f"{name}[{n}]: its label cannot be read: {first_line(error)}") from None
    try:
        labels = plain_labels(values, "item", unlabeled=-1 if any(classes.values()) else None)
    except LabelError as error:
        way_out = "give each item the number or the name of its class"
        if error.missing:
            way_out = "leave such items out with torch.utils.data.Subset(dataset, numbers of the others)"
        raise DataError(f"{name}: {error}; {way_out}") from None
    if not any(classes.values()):
        return labels, None
    if not all(classes.values()):
        raise DataError(
            f"{name}: some of the joined data sets have class names and others none; set .classes"
        )
    lists = [*classes.values()]
    numbers = [
        _class_number(label, classes[id(source)], f"{name}[{n}]")
        for n, (label, (source, _)) in enumerate(zip(labels, items, strict=True))
    ]
    if all(names == lists[0] for names in lists):
        return numbers, lists[0]
    if twice := [one for names in lists for one in names if names.count(one) > 1]:
        raise DataError(
            f"{name}: classes of joined data sets are matched by name, and {twice[0]!r} is the name of two"
        )
    every = [*dict.fromkeys(chain(*lists))]
    check_distinct_names((one for one in every if isinstance(one, str)), name)
    place = {one: n for n, one in enumerate(every)}
    return [place[classes[id(source)][n]] for n, (source, _) in zip(numbers, items, strict=True)], every


def _items(dataset: Any) -> list[tuple[Any, int]]:
    """Of each item the data set that made it, and its number there."""
    if _targets(dataset) is None and isinstance(dataset, Subset):
        own = _items(dataset.dataset)
        if any(isinstance(number, bool | np.bool_) for number in dataset.indices):
            raise ValueError("a mask of truth values in place of item numbers")
        return [own[number] for number in dataset.indices]
    if _targets(dataset) is None and isinstance(dataset, ConcatDataset):
        return [item for part in dataset.datasets for item in _items(part)]
    return [(dataset, number) for number in range(len(dataset))]


def _transforms(dataset: Any) -> list[str]:
    """Names of the transforms of a data set and of those that it consists of."""
    inner = [getattr(dataset, "dataset", None), *getattr(dataset, "datasets", ())]
    own = [n for n in ("transform", "target_transform") if getattr(dataset, n, None) is not None]
    return own + [n for one in inner if one is not None for n in _transforms(one)]


def _targets(dataset: Any) -> Any:
    """The labels that a data set lists by itself, as torchvision's do; None without."""
    found = (getattr(dataset, name, None) for name in ("targets", "labels", "_labels"))
    return next((targets for targets in found if targets is not None), None)


def _class_names(dataset: Any, name: str) -> list[Any]:
    """A data set's own names of its classes, texts or tuples of synonyms; empty without."""
    classes = getattr(dataset, "classes", None)
    if classes is None:
        return []
    if isinstance(classes, str | Mapping) or not isinstance(classes, Iterable):
        raise DataError(f"{name}: classes must be a list of names, got {describe_value(classes)}")
    return [tuple(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in classes]


def _class_number(label: Any, classes: list[Any], where: str) -> int:
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if isinstance(label, str) or not 0 <= label < len(classes):
        raise DataError(f"{where}: {label!r} is none of the {len(classes)} classes ({first_names(classes)})")
    return int(label)


def item_numbers(splits: Mapping[str, Any], total: int, name: str) -> dict[str, Tensor]:
    """Item numbers `[n]` of each split, from lists, ranges, arrays or tensors.

    Raises:
        DataError: no whole numbers, one out of range, one that occurs twice, or one in two of train, val and test.
    """
    if not isinstance(splits, Mapping) or not splits or not all(isinstance(split, str) for split in splits):
        raise DataError(f"{name}: splits must map names to item numbers, got {describe_value(splits)}")
    checked = {split: _numbers(index, total, f"{name}: split {split!r}") for split, index in splits.items()}
    for one, other in combinations([split for split in SPLITS if split in checked], 2):
        if both := sorted({*checked[one].tolist()} & {*checked[other].tolist()}):
            raise DataError(f"{name}: item {both[0]} is in {one!r} and in {other!r} ({len(both):,} in all)")
    return checked


def _numbers(index: Any, total: int, where: str) -> Tensor:
    if isinstance(index, Subset):  # as `random_split` gives it
        index = index.indices
    try:
        numbers = np.asarray(index if hasattr(index, "__array__") else [*index])
    except Exception:
        numbers = np.asarray(None)
    if not numbers.size and numbers.ndim == 1:
        return torch.empty(0, dtype=torch.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(f"{where}: expected a list of item numbers, got {describe_value(index)}")
    if wrong := [n for n in numbers.tolist() if not 0 <= n < total]:
        raise DataError(f"{where}: there is no item {wrong[0]}; they are numbered from 0 to {total - 1}")
    if len(once := np.unique(numbers)) < len(numbers):
        twice = next(n for n in once.tolist() if (numbers == n).sum() > 1)
        raise DataError(f"{where}: item {twice} is listed more than once")
    return torch.from_numpy(numbers.astype(np.int64))
