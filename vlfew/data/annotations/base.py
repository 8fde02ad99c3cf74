"""What is read from annotation files, before it meets the images."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

from vlfew.core.errors import DataError
from vlfew.core.plurals import first_names
from vlfew.data.image_files import DataFile
from vlfew.data.splits import split_named

BoxFormat = Literal["auto", "xywh", "xyxy"]
Corners = tuple[float, float, float, float]


def split_in(name: str) -> str:
    """The split that a part of a name means, such as `instances_train2017`; empty for none."""
    return next((split for part in re.split(r"[_\-.\d]+", name) if (split := split_named(part))), "")


class Annotation(NamedTuple):
    """An object in an image.

    Attributes:
        xyxy: left, top, right and bottom in the unit of its image.
        label: name of its class.
        where: it is written, for messages.
        ignored: whether it counts neither for nor against a detector.
    """

    xyxy: Corners
    label: str
    where: str
    ignored: bool = False


@dataclass
class AnnotatedFile:
    """An image and the objects in it.

    Attributes:
        file: the image.
        size: width and height that the boxes refer to, in their unit; None for the pixels of the file.
        split: empty where none is given.
        objects: in the image; none for an empty page.
        fractions: whether boxes are fractions of the sides, so that any size of the file fits.
    """

    file: DataFile
    size: tuple[float, float] | None
    split: str
    objects: list[Annotation] = field(default_factory=list)
    fractions: bool = False


class Annotations(NamedTuple):
    """What an annotated folder contains.

    Attributes:
        files: the images.
        class_names: in the order of the annotations' own numbers.
        missing: names of annotated images that are not there.
        notes: what a reader of results must know.
        read: names of the annotation files.
    """

    files: list[AnnotatedFile]
    class_names: list[str]
    missing: list[str]
    notes: list[str]
    read: set[str]


class ImageFinder:
    """Finds the image that an annotation names, by its path or the end of its path.

    Args:
        images: by name.
    """

    def __init__(self, images: Sequence[DataFile]) -> None:
        self.by_end: dict[str, list[DataFile]] = {}
        for file in images:
            steps = file.name.split("/")
            for n in range(len(steps)):
                self.by_end.setdefault("/".join(steps[n:]), []).append(file)

    def find(self, written: str, folder: str, split: str, where: str) -> DataFile | None:
        """The image; None if there is none.

        Args:
            written: path, as it is written in the annotation.
            folder: of the annotation, which the right one is in where several end alike; empty for the uppermost one.
            split: that the folders of the right one are named after, otherwise; empty for none.
            where: it is written, for messages.

        Raises:
            DataError: several images end alike.
        """
        steps = [
            step for step in written.strip().replace("\\", "/").split("/") if step not in ("", ".", "..")
        ]
        for n in range(len(steps)):
            found = self.by_end.get("/".join(steps[n:]), [])
            if len(found) > 1:
                exact = [file for file in found if file.name == "/".join(steps[n:])]
                below = [file for file in found if folder and file.name.startswith(f"{folder}/")]
                of_split = [
                    file for file in found if split and split in map(split_in, file.name.split("/")[:-1])
                ]
                found = exact or below or of_split or found
            if len(found) > 1:
                raise DataError(
                    f"{where}: {written!r} may be {first_names([file.name for file in found], 3)}; "
                    "write the path from the folder of the data"
                )
            if found:
                return found[0]
        return None


@dataclass
class BoxCheck:
    """Clips boxes to their images, and collects the bad ones.

    Attributes:
        skip: bad boxes, instead of raising them.
        clipped: names of the images with boxes that reached beyond them by more than a pixel.
        bad: why boxes were left out, with the place of each.
    """

    skip: bool
    clipped: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def fractions(self, one: Annotation, name: str, width: float, height: float) -> Corners | None:
        """The corners as fractions of the image, clipped to it; None for a bad box that is skipped.

        Raises:
            DataError: a bad box: without area, outside the image, or no numbers.
        """
        left, top, right, bottom = one.xyxy
        written = f"left {left:g}, top {top:g}, right {right:g}, bottom {bottom:g}"
        size = f"{name} of {width:g}x{height:g} pixels" if width > 1 or height > 1 else name
        if not all(map(math.isfinite, one.xyxy)):
            return self._leave_out(one, f"{written}: not a number")
        if right <= left or bottom <= top:
            return self._leave_out(one, f"{written}: a box without area")
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            return self._leave_out(one, f"{written}: outside {size}")
        slack = 1.0 if width > 1 or height > 1 else 0.01  # boxes are rounded in many ways
        if min(left, top, width - right, height - bottom) < -slack:
            self.clipped[name] += 1
        corners = (
            max(left / width, 0.0),
            max(top / height, 0.0),
            min(right / width, 1.0),
            min(bottom / height, 1.0),
        )
        # Where the box is too thin for single precision, or what is left inside the image is.
        if corners[2] - corners[0] < 1e-6 or corners[3] - corners[1] < 1e-6:
            return self._leave_out(one, f"{written}: a box without area inside {size}")
        return corners

    def _leave_out(self, one: Annotation, why: str) -> Corners | None:
        if not self.skip:
            raise_bad_box(f"{one.where}: {why}")
        self.bad.append(f"{one.where}: {why.rpartition(': ')[2]}")
        return None

    @property
    def notes(self) -> list[str]:
        """What was clipped and left out."""
        notes = []
        if self.clipped:
            total = sum(self.clipped.values())
            notes.append(f"{_boxes(total)} clipped to the image: {first_names(list(self.clipped))}")
        if self.bad:
            notes.append(f"{_boxes(len(self.bad))} left out: {first_names(self.bad, 3)}")
        return notes


def raise_bad_box(why: str) -> NoReturn:
    """
    Raises:
        DataError: with the way out.
    """
    raise DataError(f"{why} (data.on_bad_box=skip leaves such boxes out)")


def _boxes(number: int) -> str:
    return "1 box" if number == 1 else f"{number:,} boxes"


def check_size(one: AnnotatedFile, actual: tuple[int, int], where: str) -> None:
    """Checks that the size that boxes refer to has the shape of the image.

    Raises:
        DataError: it has not, so that boxes would be shifted.
    """
    if one.size is None or one.fractions:
        return
    (width, height), (wide, tall) = one.size, actual
    # A scaled copy is fine; rounded to whole pixels, its shape may differ by half a pixel on each side.
    if abs(width * tall - height * wide) <= 1.5 * max(width, height, wide, tall):
        return
    turned = "; it seems to be turned: save it without an EXIF orientation, as it was annotated" * (
        (width, height) == (tall, wide)
    )
    raise DataError(
        f"{where}: the boxes are of an image of {width:g}x{height:g} pixels, and {one.file.name} has {wide}x{tall}"
        f"{turned or '; annotate this image, or put the annotated one in its place'}"
    )
