"""How images are read: what every source is told besides its own options."""

from __future__ import annotations

from dataclasses import dataclass

from vlfew.core.config import Interpolation, OnBadImage, Resize


def middle(length: int, part: float) -> tuple[int, int]:
    """First and last (exclusive) of the middle pixels of a side, at least one."""
    kept = max(1, round(length * part))
    first = (length - kept) // 2
    return first, first + kept


@dataclass(frozen=True)
class ImagePreprocessor:
    """How a source's images become tensors of one size.

    Attributes:
        image_size: height and width in pixels.
        channels: 1 for gray, 3 for color.
        resize: `stretch` scales the whole image to the square; `crop` scales the shorter side and
            takes the middle.
        center_crop: the middle part of an image that is kept, as a fraction of each side (0.5 of 250x250
            pixels is the box from 62 to 187); the rest is cut away before resizing.
        on_bad_image: `error` stops at an image that cannot be read and names it; `skip` leaves it
            out and counts it.
        seed: of splits that the source draws itself.
        interpolation: by which images are resized.
    """

    image_size: int = 32
    channels: int = 1
    resize: Resize = "squash"
    center_crop: float = 1.0
    on_bad_image: OnBadImage = "error"
    seed: int = 0
    interpolation: Interpolation = "bilinear"
