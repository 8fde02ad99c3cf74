"""Pictures of any kind to uint8 tensors of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vlfew.data.listing import DataFile
from vlfew.data.reading import Reading, middle
from vlfew.errors import DataError
from vlfew.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture: TypeAlias = Path | DataFile | bytes | BinaryIO | Image

_KINDS = (
    "avif",
    "bmp",
    "gif",
    "jp2",
    "jpeg",
    "jpg",
    "pbm",
    "pgm",
    "png",
    "pnm",
    "ppm",
    "tif",
    "tiff",
    "webp",
)
IMAGE_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS)
MAX_PIXELS = 100_000_000
"""A larger picture is refused before it is decoded."""
MAX_BYTES = 2**30
"""A larger file is refused before it is read, or unpacked: no picture within `MAX_PIXELS` needs as much."""
DECODER_VERSION = 1
"""To be raised when the same file and reading give other pixels: decoded pictures are kept by it."""

_BLOCK = 32
"""Pictures that a thread takes at a time."""


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its suffix."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class BadPicture(DataError):
    """A picture that cannot be read."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name}: cannot be read: {' '.join(reason.split())}")


class Pictures(Protocol):
    """Anything that gives pictures by number: a list of paths, a data set's column."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


def read_image(source: Picture, reading: Reading, name: str = "") -> Tensor:
    """One picture as uint8 `[C, H, W]`.

    Turned as its EXIF data say, the first frame of an animation, transparent parts over white,
    16-bit grey scaled to 8 bits, reduced with antialiasing.

    Args:
        source: a path, bytes, an open binary file or a Pillow image.
        reading: size, channels and how to resize.
        name: of the picture, for messages.

    Raises:
        BadPicture: missing, empty, truncated, not a picture, above `MAX_PIXELS` or `MAX_BYTES`; a `DataError`.
    """
    from PIL import UnidentifiedImageError

    if not name:
        name = (
            source.name
            if isinstance(source, DataFile)
            else str(source)
            if isinstance(source, Path)
            else "picture"
        )
    try:
        return _decode(source, reading)
    except UnidentifiedImageError:
        reason = "not a picture that Pillow can read"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        # Pillow's decoders answer damaged bytes with whatever the parser stumbled over.
        reason = str(error) or type(error).__name__
    raise BadPicture(name, reason) from None


def _decode(source: Picture, reading: Reading) -> Tensor:
    from PIL import Image, ImageOps

    if isinstance(source, DataFile):
        if source.size > MAX_BYTES:
            raise ValueError(f"{source.size:,} bytes, above the limit of {MAX_BYTES:,}")
        source = source.read()
    if isinstance(source, bytes):
        if not source:
            raise ValueError("the file is empty")
        source = io.BytesIO(source)
    elif isinstance(source, Path) and source.stat().st_size == 0:
        raise ValueError("the file is empty")
    image = source if isinstance(source, Image.Image) else Image.open(source)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, above the limit of {MAX_PIXELS:,}")
    size = (reading.image_size, reading.image_size)
    resampling = Image.Resampling[reading.interpolation.upper()]
    # A JPEG can be decoded at a half, quarter or eighth; twice the size leaves room for antialiasing.
    wanted = round(2 * reading.image_size / reading.center)
    image.draft(None, (wanted, wanted))
    image.load()
    image = _plain(ImageOps.exif_transpose(image)).convert("L" if reading.channels == 1 else "RGB")
    if reading.center < 1:
        (left, right), (top, bottom) = (middle(side, reading.center) for side in image.size)
        image = image.crop((left, top, right, bottom))
    if reading.resize == "crop":
        image = ImageOps.fit(image, size, resampling)
    elif image.size != size:
        image = image.resize(size, resampling)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if reading.channels == 1 else pixels.permute(2, 0, 1).contiguous()


def resize_squares(pictures: Tensor, reading: Reading) -> Tensor:
    """Square grey pictures, many at a time, to the very pixels that `read_image` gives for each.

    Pillow resizes rows first and columns then, each on its own: pictures that are stacked on one
    another are resized as one.

    Args:
        pictures: uint8 `[S, N, N]`.
        reading: size and channels; of a square, `squash` and `crop` make the same.

    Returns:
        uint8 `[S, C, H, W]`.
    """
    from PIL import Image

    first, last = middle(pictures.shape[1], reading.center)
    stack, size = pictures[:, first:last, first:last].numpy(), reading.image_size
    resampling = Image.Resampling[reading.interpolation.upper()]
    if stack.size and stack.shape[1] != size:
        for _ in ("rows", "columns"):
            count, h, w = stack.shape
            image = Image.fromarray(stack.reshape(count * h, w))
            image = image.resize((size, count * h), resampling)
            stack = np.array(image).reshape(count, h, size).transpose(0, 2, 1)
    resized = torch.from_numpy(stack.reshape(len(pictures), 1, size, size))
    return resized.repeat(1, reading.channels, 1, 1)


def _plain(image: Image) -> Image:
    """An 8-bit image without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError(f"grey values {values.min()} to {values.max()} do not fit 16 bits")
        values[values == image.info.get("transparency", -1)] = 65535
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known white; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def decode_all(pictures: Pictures, reading: Reading, label: str) -> Iterator[Tensor | BadPicture]:
    """Each picture in turn, or why it cannot be read; decoded by a few threads, with progress.

    Args:
        pictures: whatever `read_image` takes, by number.
        reading: how to read them.
        label: for the progress bar, and for the names of pictures that have none (`label[17]`).
    """

    def decode(block: range) -> list[Tensor | BadPicture]:
        decoded: list[Tensor | BadPicture] = []
        for number in block:
            try:
                decoded.append(read_numbered(pictures, number, reading, label))
            except BadPicture as error:
                decoded.append(error)
        return decoded

    def work() -> Iterator[Tensor | BadPicture]:
        threads = min(8, os.cpu_count() or 1)
        blocks = [range(n, min(n + _BLOCK, len(pictures))) for n in range(0, len(pictures), _BLOCK)]
        with ThreadPoolExecutor(threads) as pool:
            # By the window, so that what is decoded does not run far ahead of what is taken.
            for at in range(0, len(blocks), 4 * threads):
                yield from chain.from_iterable(pool.map(decode, blocks[at : at + 4 * threads]))

    return progress(work(), label, len(pictures), "pictures")


def read_numbered(pictures: Pictures, number: int, reading: Reading, label: str) -> Tensor:
    """Picture `number` as uint8 `[C, H, W]`; called `label[number]` where it has no name of its own."""
    name = f"{label}[{number}]"
    try:
        picture = pictures[number]
    except Exception as error:
        # A foreign data set reads in there; anything can be wrong.
        raise BadPicture(name, str(error)) from None
    return read_image(picture, reading, "" if isinstance(picture, (Path, DataFile)) else name)


def read_many(pictures: Pictures, reading: Reading, label: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Many pictures, with what `reading.on_bad_image` says done to those that cannot be read.

    Args:
        pictures: S of whatever `read_image` takes, by number.
        reading: how to read them.
        label: what is being read, for the progress bar.

    Returns:
        The pictures, uint8 `[K, C, H, W]`; their numbers `[K]`; the names of those left out.

    Raises:
        DataError: a picture cannot be read and bad ones are not to be skipped.
    """
    images = torch.empty((len(pictures), reading.channels, *2 * (reading.image_size,)), dtype=torch.uint8)
    kept: list[int] = []
    skipped: list[str] = []
    for number, decoded in enumerate(decode_all(pictures, reading, label)):
        if isinstance(decoded, Tensor):
            images[len(kept)] = decoded
            kept.append(number)
        else:
            skipped.append(left_out(decoded, reading))
    return images[: len(kept)], torch.tensor(kept, dtype=torch.int64), tuple(skipped)


def left_out(bad: BadPicture, reading: Reading) -> str:
    """The name of a picture that cannot be read, if `reading` says to leave it out; else raises it."""
    if reading.on_bad_image == "error":
        raise DataError(
            f"{bad} (data.on_bad_image=skip, or --skip-bad of vlfew data show, leaves such pictures out)"
        )
    return bad.name
