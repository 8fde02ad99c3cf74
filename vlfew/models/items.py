"""Words are a `str`, a picture is a `Path` or a Pillow image: one given as the other is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vlfew.data.decode import is_picture
from vlfew.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture: TypeAlias = Path | Image


def told(value: object) -> str:
    """A value in a message, on one line: what is large by its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {list(shape)}"
    return " ".join(f"{value!r:.80}".split())


def require_words(texts: Sequence[str], where: str = "", folder: Path = Path()) -> None:
    """Holds texts to being words.

    Args:
        texts: a list of them.
        where: what stands before the message ("class 'mug': ").
        folder: that a path among them would be relative to.

    Raises:
        DataError: one text in place of a list, something else than a text, an empty text, or the name of
            a picture file that is there.
    """
    if isinstance(texts, str):
        raise DataError(f"{where}texts come in a list; got the text {texts!r} alone")
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where}words are given as str; got {told(text)}")
        if not text.strip():
            raise DataError(f"{where}an empty text says nothing: write one, or leave it out")
        if is_picture(text) and (folder / Path(text).expanduser()).is_file():
            raise DataError(
                f"{where}{text!r} is given as words, but a picture of that name is there; as a picture it is "
                f"Path({text!r}), and stands under 'images:' in a class file"
            )


def require_pictures(pictures: Sequence[Picture], where: str = "") -> None:
    """Holds pictures to being paths of files that are there, or Pillow images.

    Raises:
        DataError: one picture in place of a list, words, or a path where no file is.
    """
    if isinstance(pictures, str | Path) or hasattr(pictures, "convert"):
        raise DataError(f"{where}pictures come in a list; got {told(pictures)} alone")
    for picture in pictures:
        if isinstance(picture, str):
            raise DataError(
                f"{where}{picture!r} is a str, which is words; a picture is Path({picture!r}) or a Pillow image"
            )
        if isinstance(picture, Path) and not picture.is_file():
            raise DataError(
                f"{where}there is no picture {str(picture)!r}; words are given as str, not as Path"
            )
        if not isinstance(picture, Path) and not hasattr(picture, "convert"):
            raise DataError(f"{where}a picture is a Path or a Pillow image; got {told(picture)}")
