"""Where a point of an image lands in the square that a model gets, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.data.decode import resized_sides
from vlfew.data.preprocess import ImagePreprocessor, center_range


@dataclass(frozen=True)
class Placement:
    """Pixel x of the image is at `(x - left) / width` of the square, y at `(y - top) / height`.

    Attributes:
        left: of the square, in pixels of the image; negative where a border was added.
        top: of the square, likewise.
        width: of the square in pixels of the image.
        height: of the square, likewise.
    """

    left: float
    top: float
    width: float
    height: float

    def to_square(self, xyxy: Tensor) -> Tensor:
        """Boxes `[N, 4]` in pixels of the image to fractions of the square; not clipped."""
        return (xyxy - self._origin(xyxy)) / self._size(xyxy)

    def from_square(self, xyxy: Tensor) -> Tensor:
        """Boxes `[N, 4]` in fractions of the square to pixels of the image; not clipped."""
        return xyxy * self._size(xyxy) + self._origin(xyxy)

    def _origin(self, like: Tensor) -> Tensor:
        return torch.tensor([self.left, self.top] * 2, dtype=like.dtype, device=like.device)

    def _size(self, like: Tensor) -> Tensor:
        return torch.tensor([self.width, self.height] * 2, dtype=like.dtype, device=like.device)


def place(width: int, height: int, preprocessor: ImagePreprocessor) -> Placement:
    """How `read_image` puts an image into its square.

    Args:
        width: of the image in pixels, as it is shown (after its EXIF orientation).
        height: likewise.
        preprocessor: how images are cropped and resized.

    Raises:
        DataError: faces are aligned, which turns the image.
    """
    if preprocessor.align_faces != "none":
        raise DataError(
            "data.align_faces turns images, and their boxes would be wrong; leave it out for data with boxes"
        )
    (left, right), (top, bottom) = (center_range(side, preprocessor.center_crop) for side in (width, height))
    width, height = right - left, bottom - top
    side = preprocessor.image_size
    if (how := preprocessor.resize_first) is not None:
        tall, wide = resized_sides(height, width, preprocessor.resize, how.size)
        scale_x, scale_y = wide / width, tall / height
        start_x, start_y = (_start(n, side, how.backend == "torchvision") for n in (wide, tall))
        return Placement(left + start_x / scale_x, top + start_y / scale_y, side / scale_x, side / scale_y)
    if preprocessor.resize == "crop" and width != height:
        shorter = min(width, height)
        return Placement(left + (width - shorter) / 2, top + (height - shorter) / 2, shorter, shorter)
    if preprocessor.resize == "pad" and width != height:
        # As Pillow's ImageOps.pad: the shorter side in whole pixels, the border before it rounded to even.
        if width > height:
            tall = max(1, round(height / width * side))
            scale = tall / height
            border = round((side - tall) * 0.5)
            return Placement(left, top - border / scale, width, side / scale)
        wide = max(1, round(width / height * side))
        scale = wide / width
        border = round((side - wide) * 0.5)
        return Placement(left - border / scale, top, side / scale, height)
    return Placement(left, top, width, height)


def _start(length: int, side: int, on_tensors: bool) -> int:
    """Where the square of `side` pixels starts in a resized side; negative where a border is added."""
    if length < side:
        return -((side - length) // 2)
    return (length - side) // 2 if on_tensors else round((length - side) / 2)
