"""Checks of user input. Where a class may have both, a `str` is a text and a `Path` an image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vlfew.core.checks import to_list
from vlfew.core.errors import DataError, describe_value
from vlfew.core.paths import user_path
from vlfew.data.image_names import is_image
from vlfew.models.spec import ModelSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageInput: TypeAlias = str | Path | Image | np.ndarray


NOT_A_PATH = (
    "pass a text as str, not as Path",
    "texts are taken by encode_text and by `texts=` of a classifier",
)


def check_texts(texts: Iterable[str], where: str = "", folder: Path = Path()) -> list[str]:
    """The texts as a list, after checking that they are texts.

    Args:
        texts: a list of texts.
        where: start of the message ("class 'mug': ").
        folder: that a path among them would be relative to.

    Raises:
        DataError: a single text instead of a list, a value that is no text, an empty text, or the name of an
            existing image file.
    """
    if isinstance(texts, str):
        raise DataError(f"{where}expected a list of texts, got the single text {texts!r}")
    texts = to_list(texts, "texts", where)
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where}a text must be a str, got {describe_value(text)}")
        if not text.strip():
            raise DataError(f"{where}empty text; fill it in or leave it out")
        if is_image(text) and os.path.isfile(folder / os.path.expanduser(text)):
            raise DataError(
                f"{where}{text!r} is a text (str), but an image file of that name exists; pass the image as "
                f"Path({text!r}), or list it under 'images:' in a class file"
            )
    return texts


def check_images(images: Iterable[ImageInput], where: str = "") -> list[ImageInput]:
    """The images as a list, after checking that they are paths of files, Pillow images, or uint8 `[H, W(, C)]`.

    Raises:
        DataError: a single image instead of a list, a path without a file, or an array of another kind.
    """
    if getattr(images, "ndim", 4) not in (1, 4):
        raise DataError(f"{where}expected a list of images, got {describe_value(images)}")
    images = to_list(images, "images", where)
    for image in images:
        if isinstance(image, str | Path):
            if os.path.isdir(os.path.expanduser(image)):
                raise DataError(
                    f"{where}{str(image)!r} is a folder; list its images: sorted(Path({str(image)!r}).glob('*.jpg'))"
                )
            if not os.path.isfile(os.path.expanduser(image)):
                advice = "" if is_image(str(image)) else f"; {NOT_A_PATH[type(image) is str]}"
                raise DataError(f"{where}there is no image {str(image)!r}{advice}")
        elif isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or not (
                image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
            ):
                raise DataError(
                    f"{where}an array must be uint8 [H, W] or [H, W, C], got {image.dtype} {list(image.shape)}"
                )
        elif not hasattr(image, "convert"):
            raise DataError(
                f"{where}an image must be a path, a Pillow image or an array, got {describe_value(image)}"
            )
    return images


def to_readable(image: ImageInput) -> Path | Image:
    """What `read_image` takes: arrays as Pillow images, a `str` as a path."""
    if isinstance(image, str | Path):
        return user_path(image)
    if not isinstance(image, np.ndarray):
        return image
    from PIL import Image

    return Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def check_pixels(pixels: object, spec: ModelSpec) -> None:
    """Checks that this is a batch of images as `DualStream.preprocess` gives them: uint8 `[B, C, H, W]`.

    Raises:
        DataError: something else.
    """
    expected = [spec.channels, spec.image_size, spec.image_size]
    if not isinstance(pixels, Tensor):
        found = describe_value(pixels)
    elif pixels.dtype != torch.uint8 or [*pixels.shape[1:]] != expected:
        found = f"{pixels.dtype} {list(pixels.shape)}".removeprefix("torch.")
    else:
        return
    raise DataError(
        f"this model takes uint8 [B, {', '.join(map(str, expected))}], got {found}; preprocess images with "
        "model.preprocess, or load a data set with preprocessor=model.spec.preprocessor()"
    )


def check_tokens(tokens: Mapping[str, Tensor]) -> None:
    """Checks that these are inputs of a text encoder, as `DualStream.tokenize` gives them: integers `[T, L]` by name.

    Raises:
        DataError: something else.
    """
    if not isinstance(tokens.get("input_ids"), Tensor) or any(
        not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() for ids in tokens.values()
    ):
        found = {name: describe_value(ids) for name, ids in tokens.items()}
        raise DataError(
            f"tokens are integers [T, L] by name, as model.tokenize gives them; got {describe_value(found)}"
        )
