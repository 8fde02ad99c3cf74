"""How images are preprocessed: the settings that every data source takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vlfew.core.config import AlignFaces, Interpolation, OnBadImage, Resize
from vlfew.core.errors import DataError, describe_value


def center_range(length: int, fraction: float) -> tuple[int, int]:
    """First and last (exclusive) of the central pixels of a side, at least one."""
    size = max(1, round(length * fraction))
    first = (length - size) // 2
    return first, first + size


class ResizeFirst(BaseModel):
    """How a published model reads images: resized to whole pixels first, by its own library, and then cropped.

    Each backend rounds in its own way; the weights are used with the pixels of the one that they are published for.

    Attributes:
        size: in pixels, of the shorter side (`resize: crop`), the longer one (`pad`) or both (`stretch`), before the
            center of `image_size` pixels is taken.
        backend: `pillow` (open_clip, timm) or `torchvision`, which resizes tensors (transformers).
        fill: color of what is added where the image is smaller than `image_size`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    backend: Literal["pillow", "torchvision"] = "pillow"
    fill: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class ImagePreprocessor:
    """Turns images of a data source into tensors of one size.

    Attributes:
        image_size: height and width in pixels.
        channels: 1 for gray, 3 for color.
        resize: `stretch` scales the whole image to a square; `crop` scales the shorter side and takes the center; `pad`
            scales the longer side and adds black.
        center_crop: fraction of each side that is used (0.5 of 250x250 pixels is the box from 62 to 187); the rest is
            cropped before resizing.
        on_bad_image: `error` stops at an unreadable image; `skip` omits and counts it.
        seed: of splits that the source draws itself.
        interpolation: for resizing.
        resize_first: of a published model; None crops exactly the center first, in fractions of pixels.
        align_faces: `required` takes the main face, turned and scaled by its landmarks, in place of all other ways to
            crop and resize, and an image without one cannot be read; with `when_found`, such an image is cropped and
            resized as others are (needs the extra `faces`).
    """

    image_size: int = 32
    channels: int = 1
    resize: Resize = "stretch"
    center_crop: float = 1.0
    on_bad_image: OnBadImage = "error"
    seed: int = 0
    interpolation: Interpolation = "bilinear"
    resize_first: ResizeFirst | None = None
    align_faces: AlignFaces = "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of an image."""
        return self.channels, self.image_size, self.image_size


def check_preprocessor(preprocessor: object) -> None:
    """
    Raises:
        DataError: this is no `ImagePreprocessor`.
    """
    if not isinstance(preprocessor, ImagePreprocessor):
        raise DataError(
            "preprocessor must be a vlfew.ImagePreprocessor, such as model.spec.preprocessor(), "
            f"got {describe_value(preprocessor)}"
        )
