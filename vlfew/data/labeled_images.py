"""`LabeledImages`: a data set as every source returns it, and as training and evaluation use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from vlfew.core.errors import DataError, did_you_mean
from vlfew.core.plurals import counted, first_names
from vlfew.data.boxes import Boxes
from vlfew.data.class_names import shared_text_note
from vlfew.data.duplicates import duplicate_note
from vlfew.data.file_hashes import hash_images
from vlfew.data.pairs import Pairs

NO_LABEL = -1
"""Label of an image of several objects."""


class ImageStore(Protocol):
    """Images of one size, by number, as uint8 with channels first."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of one image."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of decoded images in memory."""
        ...

    @property
    def hashes(self) -> Tensor | None:
        """64-bit hash `[S]` of each image, of its pixels or of its file; None if it is unknown."""
        ...

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor:
        """Images `index [B]` as uint8 `[B, C, H, W]`."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Decoded images in memory: `tensor` is uint8 `[S, C, H, W]`.

    Args:
        tensor: the images.
        known_hashes: their hashes `[S]`, if they were computed before.
    """

    tensor: Tensor
    known_hashes: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tensor.dtype != torch.uint8 or self.tensor.ndim != 4:
            raise ValueError(
                f"expected uint8 [S, C, H, W], got {self.tensor.dtype} {tuple(self.tensor.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        _, c, h, w = self.tensor.shape
        return c, h, w

    @property
    def nbytes(self) -> int:
        return self.tensor.numel()

    @cached_property
    def hashes(self) -> Tensor:
        return hash_images(self.tensor) if self.known_hashes is None else self.known_hashes

    def __len__(self) -> int:
        return len(self.tensor)

    def batch(self, index: Tensor) -> Tensor:
        return self.tensor[index]


def missing_note(**counts: tuple[int, int]) -> str:
    """`39 of 40 people, 389 of 400 images available`; empty if nothing is missing.

    Args:
        counts: available number and full number by what is counted.
    """
    if all(available == complete for available, complete in counts.values()):
        return ""
    listed = (f"{available:,} of {complete:,} {what}" for what, (available, complete) in counts.items())
    return f"{', '.join(listed)} available"


@dataclass(frozen=True)
class LabeledImages:
    """A data set.

    Attributes:
        name: of the source, as on the command line.
        images: the images.
        labels: `[S]` int64, class of each image; `NO_LABEL` for all of them where there are boxes.
        class_names: one unique display name per class.
        splits: split name to its image numbers `[n]`, sorted.
        fingerprint: a hash of the content of images, of labels, texts and splits.
        split_by: `class` if splits share no classes (see `check_disjoint_classes`); `image` if splits share the
            classes, so that evaluated classes were trained on.
        class_texts: all texts of each class: names, descriptions, captions. A class without any has a code for a name
            (`s17`); empty means that no class has text.
        texts_file: where the user can give a class its texts, for messages; empty if there is no such place.
        class_group: `[classes]` int64, the group (such as the alphabet) of each class, if any.
        group_names: names of the groups.
        source_id: `[S]` int64, who or what made the image (the drawer, the font), if known.
        image_names: `[S]` file names within the data set; empty if images have no names.
        boxes: of the objects in the images and their classes, for data of several objects in an image (`glyph_pages`,
            `coco`); None for data of one label an image.
        pairs: split name to the image pairs of the data set's own protocol, if any.
        training_labels: which labels of the training split may be used, in the terms of the data set's own protocol
            (LFW: `unrestricted`); empty if there is no such convention.
        images_from: the larger data set that the images were taken from (`ImageNet-1k`), if any.
        skipped: names of unreadable images that were skipped (`on_bad_image: skip`).
        set_aside: names of files that are in its folder and are no images of it.
        note: what a reader of results must know ("5,200 of 60,000 images available").
    """

    name: str
    images: ImageStore
    labels: Tensor
    class_names: tuple[str, ...]
    splits: Mapping[str, Tensor]
    fingerprint: str
    split_by: Literal["class", "image"] = "class"
    class_texts: tuple[tuple[str, ...], ...] = ()
    texts_file: str = ""
    class_group: Tensor | None = None
    group_names: tuple[str, ...] = ()
    source_id: Tensor | None = None
    image_names: tuple[str, ...] = ()
    boxes: Boxes | None = None
    pairs: Mapping[str, Pairs] = field(default_factory=dict)
    training_labels: str = ""
    images_from: str = ""
    skipped: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.images):
            raise ValueError(f"{len(self.labels)} labels for {len(self.images)} images")
        if self.boxes is not None and self.boxes.num_images != len(self.images):
            raise ValueError(f"boxes of {self.boxes.num_images} images for {len(self.images)}")
        if not self.class_texts:
            object.__setattr__(self, "class_texts", ((),) * len(self.class_names))
        if len(self.class_texts) != len(self.class_names):
            raise ValueError(f"texts of {len(self.class_texts)} classes for {len(self.class_names)} names")

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What readers of a log, a table or a page must know: the note, and what was left out, by number and names."""
        notes = [self.note] if self.note else []
        if 0 < len(codes := self.without_text()) < len(self.class_names):
            notes.append(
                f"{len(codes):,} of {counted(len(self.class_names), 'class')} without text, since the name looks like "
                f"a code: {first_names(codes)}"
                + f" ({self.texts_file} can give it one)"
                * bool(self.texts_file)
            )
        if self.skipped:
            notes.append(
                f"{counted(len(self.skipped), 'unreadable image')} skipped: {first_names(self.skipped)}"
            )
        if self.set_aside:
            notes.append(f"{counted(len(self.set_aside), 'file')} set aside: {first_names(self.set_aside)}")
        return tuple(
            filter(None, [*notes, duplicate_note(self), shared_text_note(self.class_names, self.class_texts)])
        )

    def indices(self, split: str) -> Tensor:
        """Image numbers `[n]` of a split.

        Raises:
            DataError: unknown split.
        """
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}{did_you_mean(split, self.splits)}")
        return self.splits[split]

    def classes(self, split: str) -> Tensor:
        """Class numbers `[C]` of a split, ascending; of the objects in its images, where these have boxes."""
        index = self.indices(split)
        return (
            self.labels[index] if self.boxes is None else self.boxes.subset(index).objects.labels
        ).unique()

    def without_text(self, split: str | None = None) -> list[str]:
        """Names of the classes of a split, or of all, that have no text: they are codes."""
        classes = range(len(self.class_names)) if split is None else self.classes(split).tolist()
        return [self.class_names[c] for c in classes if not self.class_texts[c]]

    def by_class(self, split: str) -> dict[int, Tensor]:
        """Class number to its image numbers in the split, ascending.

        Raises:
            DataError: images of several objects.
        """
        self.require_labels("a list of the images of each class")
        index = self.indices(split)
        labels = self.labels[index]
        order = labels.argsort(stable=True)
        values, counts = labels[order].unique_consecutive(return_counts=True)
        return dict(zip(values.tolist(), index[order].split(counts.tolist()), strict=True))

    def check_disjoint_classes(self, first: str, second: str) -> None:
        """Check that two splits share no classes, as few-shot evaluation requires.

        Raises:
            DataError: a class is in both splits.
        """
        both = sorted(set(self.classes(first).tolist()) & set(self.classes(second).tolist()))
        if both:
            raise DataError(
                f"{self.name}: class {self.class_names[both[0]]!r} is in both {first!r} and {second!r}"
                f" ({len(both)} in all); few-shot splits must not share classes"
            )

    def require_labels(self, who: str) -> None:
        """Check that each image has a label.

        Args:
            who: needs it, for the message.

        Raises:
            DataError: images of several objects.
        """
        if self.boxes is not None:
            raise DataError(
                f"{self.name} has images of several objects, with boxes, and {who} needs one class for each image; "
                "data.crops=true makes an image of each object"
            )

    def require_boxes(self, who: str) -> Boxes:
        """The boxes of the objects.

        Args:
            who: needs them, for the message.

        Raises:
            DataError: images of one label each.
        """
        if self.boxes is None:
            raise DataError(
                f"{who} needs images with boxes, and {self.name} has one class for each image "
                "(glyph_pages, and coco without data.crops, have boxes)"
            )
        return self.boxes
