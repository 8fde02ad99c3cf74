"""Images of a data set as thumbnails inside a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.feature_bank import FeatureBank

THUMBNAIL = 96
"""Longest side of a thumbnail in pixels."""
PIXEL_ART = 64
"""Images up to this size are enlarged without smoothing, and stored without loss."""


@dataclass(frozen=True)
class Thumbnail:
    """An image of the page.

    Attributes:
        src: `data:` address.
        name: shown when hovering, and read by screen readers.
        pixelated: whether it is enlarged without smoothing.
    """

    src: str
    name: str
    pixelated: bool


def data_uri(pixels: Tensor, longest: int = THUMBNAIL) -> str:
    """A uint8 image `[C, H, W]` as a `data:` address: PNG, or JPEG for larger color images."""
    image = Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).contiguous().numpy())
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    kind = "jpeg" if pixels.shape[0] == 3 and max(pixels.shape[1:]) > PIXEL_ART else "png"
    buffer = BytesIO()
    image.save(buffer, kind, optimize=True, quality=85)
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"


def thumbnail(pixels: Tensor, name: str, longest: int = THUMBNAIL) -> Thumbnail:
    """A uint8 image `[C, H, W]` under a name."""
    return Thumbnail(data_uri(pixels, longest), name, max(pixels.shape[1:]) <= PIXEL_ART)


def bank_thumbnails(
    bank: FeatureBank, positions: Sequence[int] | Tensor, names: Sequence[str], longest: int = THUMBNAIL
) -> list[Thumbnail]:
    """The images at `positions` of the bank, each under its name."""
    images = bank.data.images.batch(bank.index[torch.as_tensor(positions)])
    return [thumbnail(pixels, name, longest) for pixels, name in zip(images, names, strict=True)]


def pair_thumbnails(data: LabeledImages, first: int, second: int) -> list[Thumbnail]:
    """Two images of the data, named by their files where these are known, else by their classes."""
    pair = [first, second]
    names = data.image_names or [data.class_names[label] for label in data.labels.tolist()]
    images = data.images.batch(torch.tensor(pair))
    return [thumbnail(pixels, names[n]) for n, pixels in zip(pair, images, strict=True)]
