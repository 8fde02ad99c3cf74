"""The items of classes, as `FewShotClassifier` takes them: images, texts and labels."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vlfew.core.checks import to_list
from vlfew.core.errors import DataError, describe_value
from vlfew.core.features import Features
from vlfew.core.plurals import counted
from vlfew.data.class_labels import LabelError, plain_labels
from vlfew.data.class_names import check_distinct_names, shared_text_note
from vlfew.encoders.text.distinct import check_distinct_texts
from vlfew.models.dual_stream import DualStream
from vlfew.models.inputs import check_images, check_texts

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput

Item: TypeAlias = "str | ImageInput"


def split_items(
    classes: Mapping[Any, Item | Sequence[Item]],
) -> tuple[list[ImageInput], list[Any], dict[Any, list[str]]]:
    """Images, their labels, and the texts of each class, from classes and their items (`str` is a text).

    Raises:
        DataError: no dict or an empty one, names that read the same, a class without items, an image that cannot be
            read, or a text in the place of an image or the reverse.
    """
    if not isinstance(classes, Mapping) or not classes:
        raise DataError(
            f"classes must be a dict from each class to its texts or images, got {describe_value(classes)}"
        )
    check_distinct_names((name for name in classes if isinstance(name, str)), "classes", "names")
    images: list[ImageInput] = []
    labels: list[Any] = []
    texts: dict[Any, list[str]] = {}
    for name, given in classes.items():
        items: list[Any] = [*given] if isinstance(given, list | tuple | Iterator) else [given]
        if not items:
            raise DataError(f"class {name!r} has no items; add a text, an image or both")
        own = check_images([item for item in items if not isinstance(item, str)], f"class {name!r}: ")
        images += own
        labels += [name] * len(own)
        if len(own) < len(items):
            texts[name] = text_list(name, [item for item in items if isinstance(item, str)])
    return images, labels, texts


def text_list(label: Any, texts: str | Iterable[str]) -> list[str]:
    """The text or texts of a class as a list.

    Raises:
        DataError: something else than texts.
    """
    return check_texts([texts] if isinstance(texts, str) else texts, f"class {label!r}: ")


def encode_texts(
    model: DualStream | None, texts: Mapping[Any, Any], with_images: Container[Any] = ()
) -> tuple[Tensor, list[Any]]:
    """Embeddings `[T, D]` of all texts of the classes, and the class of each; without a model, texts are embeddings.

    Args:
        model: encodes the texts.
        texts: of each class.
        with_images: classes that have images, too.

    Raises:
        DataError: something else than texts or, without a model, embeddings of one width; texts of two classes that
            the model cannot tell apart.
        ModelError: the model has no text encoder.
    """
    per_class: dict[Any, Any]
    embedding = torch.empty(0)
    if model is not None:
        per_class = {label: text_list(label, own) for label, own in texts.items()}
        if without := [label for label, own in per_class.items() if not own]:
            raise DataError(
                f"class {without[0]!r} has an empty list of texts; add a text, or leave it out of texts"
            )
        if texts:
            encoder = model.require_text_encoder()
            check_distinct_texts(encoder, [*per_class], [*per_class.values()], with_images=with_images)
            if shared := shared_text_note([*per_class], [*per_class.values()]):
                warnings.warn(shared, stacklevel=3)
            embedding = model.encode_text([text for own in per_class.values() for text in own]).cpu()
            Features(embedding).check_finite("texts")
    else:
        try:
            per_class = {label: np.atleast_2d(np.asarray(own, np.float64)) for label, own in texts.items()}
            embedding = torch.tensor(np.concatenate([*per_class.values()])) if texts else embedding
        except (TypeError, ValueError):
            raise DataError("without a model, texts must be embeddings [D] or [T, D] of one width") from None
        if (embedding.ndim != 2 and texts) or not embedding.isfinite().all():
            raise DataError("without a model, texts must be embeddings [D] or [T, D] of finite numbers")
    return embedding, [label for label, own in per_class.items() for _ in own]


def label_array(y: Any, count: int) -> np.ndarray:
    """The labels `[S]` of S images, all numbers or all texts.

    Raises:
        DataError: no list of labels, another number of them, missing ones, or several kinds.
    """
    try:
        labels = plain_labels(to_list(y, "labels"), "image")
    except LabelError as error:
        raise DataError(f"{error}; give each image the label of one class") from None
    if len(labels) != count:
        raise DataError(
            f"{counted(count, 'image')} and {counted(len(labels), 'label')}: give one label per image"
        )
    return np.array(labels)


def encode_labels(y: Any, text_labels: Sequence[Any]) -> tuple[np.ndarray, Tensor]:
    """The sorted classes, and the place in them of each label of images `y` and, after them, of texts.

    Raises:
        DataError: labels of one kind are numbers and those of the other strings, or classes that are neither.
    """
    try:
        plain_labels(text_labels, "class")
    except LabelError as error:
        raise DataError(f"classes of texts must be all numbers or all texts: {error}") from None
    parts = [np.asarray(part) for part in (y, text_labels) if part is not None and len(part)]
    if len({part.dtype.kind in "USO" for part in parts}) > 1:
        raise DataError(
            f"texts are for classes such as {text_labels[0]!r}, but labels are such as {parts[0][0]!r}; "
            "use the same labels for both"
        )
    classes, class_id = np.unique(np.concatenate(parts), return_inverse=True)
    return classes, torch.from_numpy(class_id)


def pixel_batches(model: DualStream, images: Any) -> Iterator[Tensor]:
    """Preprocessed images, uint8 `[B, C, H, W]`, in batches, of paths, Pillow images, arrays or preprocessed images.

    Raises:
        DataError: no list of images, an empty one, or an image that cannot be read.
    """
    if not isinstance(images, Tensor):
        images = check_images(images)
        if not images:
            raise DataError("there are no images to classify")
    return model.pixel_batches(images)
