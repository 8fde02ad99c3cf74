"""Pictures of a split, inline."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
import torch
from torch import Tensor

from vlfew.data.images import LabelledImages
from vlfew.evaluation.bank import FeatureBank
from vlfew.report.markup import Html, element

THUMBNAIL = 96
"""Longest side, in pixels, of a picture on the page."""
PIXEL_ART = 64
"""Pictures up to this size are shown with hard pixels, not blurred."""


def data_uri(picture: Tensor) -> str:
    """A uint8 picture `[C, H, W]` as a `data:` address: PNG, or JPEG where that is much smaller."""
    from PIL import Image

    pixels: np.ndarray = picture.permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    photo = picture.shape[0] == 3 and max(picture.shape[1:]) > PIXEL_ART
    buffer = BytesIO()
    if photo:
        image.save(buffer, "JPEG", quality=85)
    else:
        image.save(buffer, "PNG", optimize=True)
    return f"data:image/{'jpeg' if photo else 'png'};base64,{b64encode(buffer.getvalue()).decode()}"


def sharpness(picture: Tensor) -> str | None:
    """The style that keeps the pixels of a small picture hard."""
    return "sharp" if max(picture.shape[1:]) <= PIXEL_ART else None


def picture_at(bank: FeatureBank, position: int) -> Tensor:
    """The picture `[C, H, W]` at a position in the bank."""
    return bank.data.images.batch(bank.index[position : position + 1])[0]


def thumbnail(bank: FeatureBank, position: int, name: str) -> Html:
    """The picture at a position in the bank, inline, called `name`."""
    picture = picture_at(bank, position)
    return element("img", src=data_uri(picture), alt=name, title=name, class_=sharpness(picture))


def side_by_side(data: LabelledImages, first: int, second: int) -> Html:
    """Two pictures of the data, inline, called by their file names where there are any, else by their class."""
    tiles = []
    for number, picture in zip(
        (first, second), data.images.batch(torch.tensor([first, second])), strict=True
    ):
        name = (
            data.picture_names[number] if data.picture_names else data.class_names[int(data.labels[number])]
        )
        tiles.append(element("img", src=data_uri(picture), alt=name, title=name, class_=sharpness(picture)))
    return element("span", *tiles, class_="two")
