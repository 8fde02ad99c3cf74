"""From images with annotated objects to a data set: of whole images with boxes, or of an image of each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vlfew.core.plurals import counted
from vlfew.data.box_geometry import place
from vlfew.data.boxes import Boxes
from vlfew.data.crops import ObjectCrops
from vlfew.data.decode import ImageSequence
from vlfew.data.file_hashes import hash_bytes
from vlfew.data.image_files import digest
from vlfew.data.image_stores import LoadedImages, load_images
from vlfew.data.labeled_images import NO_LABEL, ImageStore, LabeledImages
from vlfew.data.preprocess import ImagePreprocessor


class AnnotatedImages(NamedTuple):
    """S images and the objects in them, as a source found them.

    Attributes:
        name: of the source.
        images: files, or gray arrays `[H, W]`, by number.
        image_names: of all S.
        sizes: width and height of each in pixels; None where it is unknown.
        boxes: as fractions of the whole images, before they are cropped and resized.
        class_names: one for each class.
        class_texts: all texts of each class.
        splits: split name to its image numbers.
        hashes: of the content of each image.
        facts: what else the fingerprint covers.
        notes: what a reader of results must know.
        set_aside: names of files that are not read.
        store: gives the images at the model's size, where the source made them itself; None to read and to cache them.
    """

    name: str
    images: ImageSequence
    image_names: Sequence[str]
    sizes: Sequence[tuple[int, int] | None]
    boxes: Boxes
    class_names: tuple[str, ...]
    class_texts: tuple[tuple[str, ...], ...]
    splits: Mapping[str, Tensor]
    hashes: Sequence[int] | None
    facts: Any = None
    notes: Sequence[str] = ()
    set_aside: Sequence[str] = ()
    store: ImageStore | None = None


def whole_images(
    found: AnnotatedImages, preprocessor: ImagePreprocessor, memory_limit_mb: int
) -> LabeledImages:
    """The images, with the boxes where they are in the squares that a model gets.

    A box that is cropped away with its part of the image is left out, and `note` counts it.

    Raises:
        DataError: an unreadable image, or boxes of images that are turned to align faces.
    """
    if found.store is not None:
        loaded = LoadedImages(found.store, torch.arange(len(found.store)), (), found.hashes)
    else:
        loaded = load_images(found.images, preprocessor, "reading images", memory_limit_mb, found.hashes)
    images, numbers, skipped, hashes = loaded
    boxes, lost = _in_squares(
        found.boxes.subset(numbers), [found.sizes[n] for n in numbers.tolist()], preprocessor
    )
    notes = [*found.notes]
    if lost:
        notes.append(
            f"{counted(lost, 'object')} cropped away, outside the squares (data.resize=pad keeps all)"
        )
    return LabeledImages(
        name=found.name,
        images=images,
        labels=torch.full((len(images),), NO_LABEL),
        class_names=found.class_names,
        class_texts=found.class_texts,
        splits={split: _renumbered(index, numbers) for split, index in found.splits.items()},
        fingerprint=_fingerprint(found, hashes, skipped),
        split_by=_split_by(found),
        image_names=tuple(found.image_names[n] for n in numbers.tolist()),
        boxes=boxes,
        skipped=skipped,
        set_aside=tuple(found.set_aside),
        note="; ".join(notes),
    )


def object_images(
    found: AnnotatedImages, preprocessor: ImagePreprocessor, memory_limit_mb: int, margin: float
) -> LabeledImages:
    """An image of each object, a square around its box, for everything that needs one class for each image.

    Raises:
        DataError: an unreadable image.
    """
    objects = found.boxes.objects
    hashes = found.hashes
    if hashes is not None:
        boxes = objects.xyxy.tolist()
        hashes = [
            hash_bytes(repr((hashes[of], box, margin)).encode())
            for of, box in zip(objects.image.tolist(), boxes, strict=True)
        ]
    # What the source made itself is made again as fast as it is read from a cache.
    cached = hashes if found.store is None else None
    images, numbers, skipped, _ = load_images(
        ObjectCrops(found.images, objects, margin), preprocessor, "cropping objects", memory_limit_mb, cached
    )
    labels, image = objects.labels[numbers], objects.image[numbers]
    in_image = torch.arange(len(objects)) - torch.tensor(_first_rows(objects))
    return LabeledImages(
        name=found.name,
        images=images,
        labels=labels,
        class_names=found.class_names,
        class_texts=found.class_texts,
        splits={split: torch.isin(image, index).nonzero().flatten() for split, index in found.splits.items()},
        fingerprint=digest(_fingerprint(found, hashes, skipped), margin),
        split_by=_split_by(found),
        image_names=tuple(
            f"{found.image_names[of]} {n}"
            for of, n in zip(image.tolist(), in_image[numbers].tolist(), strict=True)
        ),
        skipped=skipped,
        set_aside=tuple(found.set_aside),
        note="; ".join(found.notes),
    )


def _first_rows(boxes: Boxes) -> list[int]:
    """For each object, the number of the first one in its image."""
    return [boxes.rows(image).start for image in boxes.image.tolist()]


def _in_squares(
    boxes: Boxes, sizes: Sequence[tuple[int, int] | None], preprocessor: ImagePreprocessor
) -> tuple[Boxes, int]:
    """Boxes as fractions of the squares, and how many were cropped away."""
    xyxy = boxes.xyxy.double()
    for image, size in enumerate(sizes):
        rows = boxes.rows(image)
        if size is not None and rows.start < rows.stop:
            pixels = xyxy[rows] * torch.tensor([*size, *size], dtype=xyxy.dtype)
            xyxy[rows] = place(*size, preprocessor).to_square(pixels)
    xyxy = xyxy.clamp(0, 1).float()
    seen = (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
    assert boxes.ignored is not None
    return Boxes(
        xyxy[seen], boxes.labels[seen], boxes.image[seen], boxes.num_images, boxes.ignored[seen]
    ), int((~seen).sum())


def _renumbered(index: Tensor, numbers: Tensor) -> Tensor:
    """Where the images of a split are among those that could be read."""
    return torch.isin(numbers, index).nonzero().flatten()


def _split_by(found: AnnotatedImages) -> Literal["class", "image"]:
    """`class` if no two splits share a class."""
    classes = [found.boxes.subset(index).objects.labels.unique() for index in found.splits.values()]
    return "class" if len(torch.cat(classes).unique()) == sum(map(len, classes)) else "image"


def _fingerprint(found: AnnotatedImages, hashes: Sequence[int] | None, skipped: Sequence[str]) -> str:
    boxes = found.boxes
    assert boxes.ignored is not None
    annotated = [boxes.xyxy.tolist(), boxes.labels.tolist(), boxes.image.tolist(), boxes.ignored.tolist()]
    splits = {split: index.tolist() for split, index in found.splits.items()}
    content = [
        list(found.image_names),
        hashes,
        list(skipped),
        annotated,
        found.class_texts,
        splits,
        found.facts,
    ]
    return digest(*content)
