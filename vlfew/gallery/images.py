"""Images as a gallery takes them in: read once, for the model, for a thumbnail and for a hash."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.paths import user_path
from vlfew.data.decode import MAX_BYTES, BadImage, read_image
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.models.inputs import check_images, to_readable

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput

THUMBNAIL = ImagePreprocessor(image_size=96, channels=3, resize="pad")


@dataclass
class ReadImage:
    """An image that was read.

    Attributes:
        name: of the file, or `image 3`, for messages.
        source: absolute path; "" where it came from memory.
        digest: SHA-256 of the file's bytes, or of an image's size, mode and pixels.
        pixels: uint8 `[C, H, W]` for the model.
        thumbnail: JPEG; None for none.
        content: the file's bytes, or the image as PNG, where they are kept.
    """

    name: str
    source: str
    digest: bytes
    pixels: Tensor
    thumbnail: bytes | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)

    @property
    def blank(self) -> bool:
        """Whether all pixels that the model sees are the same."""
        return bool((self.pixels == self.pixels[:, :1, :1]).all())


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file.

    Raises:
        BadImage: it cannot be read.
    """
    return hashlib.sha256(_read_bytes(path)).digest()


def read(
    image: ImageInput,
    number: int,
    preprocessor: ImagePreprocessor,
    *,
    thumbnail: bool = False,
    content: bool = False,
) -> ReadImage:
    """Reads one image.

    Args:
        image: a path, a Pillow image or an array.
        number: of the image, which names one without a path.
        preprocessor: of the model.
        thumbnail: whether to make one.
        content: whether to keep the bytes.

    Raises:
        DataError: not an image, or one that cannot be read.
    """
    if isinstance(image, str | Path):
        path = user_path(image)
        name, source, stored = str(path), str(path.absolute()), _read_bytes(path)
        hashed = stored
        readable: Any = stored
    else:
        check_images([image], f"image {number}: ")
        pillow = to_readable(image)
        assert not isinstance(pillow, Path)
        name, source = f"image {number}", ""
        hashed = f"{pillow.mode} {pillow.size} ".encode() + pillow.tobytes()
        stored, readable = _png(pillow) if content else b"", pillow
    pixels = read_image(readable, preprocessor, name)
    small = make_thumbnail(readable, name) if thumbnail else None
    return ReadImage(
        name, source, hashlib.sha256(hashed).digest(), pixels, small, stored if content else None
    )


def make_thumbnail(readable: Any, name: str) -> bytes:
    """A JPEG of 96 pixels.

    Args:
        readable: what `read_image` takes.
        name: for messages.

    Raises:
        BadImage: it cannot be read.
    """
    from PIL import Image

    pixels, buffer = read_image(readable, THUMBNAIL, name), io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; name its images, or enroll it with --folder")
        if path.stat().st_size > MAX_BYTES:
            raise BadImage(str(path), f"above the limit of {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadImage(str(path), error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the name
        raise BadImage(os.fsdecode(path), str(error)) from None


def _png(image: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")  # type: ignore[attr-defined]
    return buffer.getvalue()
