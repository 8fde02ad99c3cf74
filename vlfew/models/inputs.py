"""Words are a `str`, an image is a `Path` or a Pillow image: one given as the other is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vlfew.core.errors import DataError
from vlfew.data.decode import is_image

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageInput: TypeAlias = Path | Image


def told(value: object) -> str:
    """A value in a message, on one line: what is large by its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {list(shape)}"
    return " ".join(f"{value!r:.80}".split())


def check_texts(texts: Sequence[str], where: str = "", folder: Path = Path()) -> None:
    """Holds texts to being words.

    Args:
        texts: a list of them.
        where: what stands before the message ("class 'mug': ").
        folder: that a path among them would be relative to.

    Raises:
        DataError: one text in place of a list, something else than a text, an empty text, or the name of
            an image file that is there.
    """
    if isinstance(texts, str):
        raise DataError(f"{where}texts come in a list; got the text {texts!r} alone")
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where}words are given as str; got {told(text)}")
        if not text.strip():
            raise DataError(f"{where}an empty text says nothing: write one, or leave it out")
        if is_image(text) and (folder / Path(text).expanduser()).is_file():
            raise DataError(
                f"{where}{text!r} is given as words, but an image of that name is there; as an image it is "
                f"Path({text!r}), and stands under 'images:' in a class file"
            )


def check_images(images: Sequence[ImageInput], where: str = "") -> None:
    """Holds images to being paths of files that are there, or Pillow images.

    Raises:
        DataError: one image in place of a list, words, or a path where no file is.
    """
    if isinstance(images, str | Path) or hasattr(images, "convert"):
        raise DataError(f"{where}images come in a list; got {told(images)} alone")
    for image in images:
        if isinstance(image, str):
            raise DataError(
                f"{where}{image!r} is a str, which is words; an image is Path({image!r}) or a Pillow image"
            )
        if isinstance(image, Path) and not image.is_file():
            raise DataError(f"{where}there is no image {str(image)!r}; words are given as str, not as Path")
        if not isinstance(image, Path) and not hasattr(image, "convert"):
            raise DataError(f"{where}an image is a Path or a Pillow image; got {told(image)}")
