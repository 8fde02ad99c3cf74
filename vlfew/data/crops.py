"""The objects of annotated images as images of their own."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vlfew.data.boxes import Boxes
from vlfew.data.decode import MAX_PIXELS, ImageSequence, reads_heic
from vlfew.data.image_files import DataFile

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112
"""EXIF tag of how an image is turned; from 5 on, its sides are swapped."""


@dataclass(frozen=True)
class ObjectCrops:
    """The square around each object, by number, as Pillow images.

    Attributes:
        images: files, or gray arrays `[H, W]`, by number.
        boxes: of the objects, as fractions of the whole images.
        margin: around a box on each side, as a fraction of its longer side.
    """

    images: ImageSequence
    boxes: Boxes
    margin: float

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, number: int, /) -> Image:
        image = open_image(self.images[int(self.boxes.image[number])])
        left, top, right, bottom = self.boxes.xyxy[number].tolist()
        return crop_square(
            image,
            (left * image.width, top * image.height, right * image.width, bottom * image.height),
            self.margin,
        )


def crop_square(image: Image, xyxy: tuple[float, float, float, float], margin: float) -> Image:
    """The square around a box, moved into the image where it reaches beyond it, and cut where it does not fit.

    Args:
        image: the whole of it.
        xyxy: the box, in pixels.
        margin: on each side, as a fraction of the longer side of the box.
    """
    left, top, right, bottom = xyxy
    half = max(right - left, bottom - top) * (0.5 + margin)
    x, y = (left + right) / 2, (top + bottom) / 2
    # Whole pixels that contain the square; of the two sides, the longer one.
    side = max(1, *(math.ceil(middle + half) - math.floor(middle - half) for middle in (x, y)))
    x1, x2 = _inside(x - half, side, image.width)
    y1, y2 = _inside(y - half, side, image.height)
    return image.crop((x1, y1, x2, y2))


def _inside(start: float, pixels: int, length: int) -> tuple[int, int]:
    """First and last (exclusive) pixel of an interval that is moved, then cut, into `0 .. length`."""
    pixels = min(pixels, length)
    first = min(max(math.floor(start), 0), length - pixels)
    return first, first + pixels


def open_image(source: DataFile | np.ndarray) -> Image:
    """A file or an array as a Pillow image, turned as it is shown.

    Raises:
        OSError: it is none, or above `MAX_PIXELS`.
    """
    from PIL import Image, ImageOps

    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    reads_heic()
    image = Image.open(_stream(source))
    if image.width * image.height > MAX_PIXELS:
        raise OSError(f"{image.width}x{image.height} pixels, above the limit of {MAX_PIXELS:,}")
    return ImageOps.exif_transpose(image)


def image_size(file: DataFile) -> tuple[int, int] | None:
    """Width and height of an image as it is shown, from its header; None if it cannot be read."""
    from PIL import Image

    reads_heic()
    try:
        with Image.open(_stream(file)) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)
    except Exception:  # whatever a decoder makes of damaged bytes; reading the image names it
        return None


def _stream(file: DataFile) -> Path | BinaryIO:
    return file.place / file.name if isinstance(file.place, Path) else io.BytesIO(file.read())
