"""Decode image files of any kind to uint8 tensors of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vlfew.core.config import Resize
from vlfew.core.errors import DataError, ModelError
from vlfew.core.progress import progress
from vlfew.data.face_alignment import LONGEST_SIDE, align_face
from vlfew.data.image_files import DataFile
from vlfew.data.image_names import HEIC_SUFFIXES
from vlfew.data.preprocess import ImagePreprocessor, ResizeFirst, center_range
from vlfew.data.threads import map_in_threads

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageInput: TypeAlias = Path | DataFile | bytes | BinaryIO | np.ndarray | Image

MAX_PIXELS = 100_000_000
"""Larger images are rejected before they are decoded."""
MAX_BYTES = 2**30
"""Larger files are rejected before they are read or unpacked; no image within `MAX_PIXELS` needs as much."""
DECODER_VERSION = 1
"""Increase it when the same file and preprocessor give other pixels: it is part of the cache key."""

NO_FACE = "no face was found in it"
NO_HEIC = "HEIC images need pillow-heif (pip install 'vlfew[heic]')"


@cache
def reads_heic() -> bool:
    """Whether HEIC images can be read: Pillow learns it from the package pillow-heif, where that is installed."""
    if find_spec("pillow_heif") is None:
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True


class BadImage(DataError):
    """An image that cannot be read."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name}: cannot be read: {' '.join(reason.split())}")


class ImageSequence(Protocol):
    """Anything that gives images by number: a list of paths, a column of a data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


def read_image(source: ImageInput, preprocessor: ImagePreprocessor, name: str = "") -> Tensor:
    """Decode one image to uint8 `[C, H, W]`.

    EXIF orientation is applied, of an animation the first frame is used, transparent parts become white, 16-bit gray
    is scaled to 8 bits, and images are reduced with antialiasing.

    Args:
        source: a path, bytes, an open binary file, a uint8 array `[H, W]` or `[H, W, 3]`, or a Pillow image.
        preprocessor: size, channels and how to resize.
        name: of the image, for messages.

    Raises:
        BadImage: missing, empty, truncated, not an image, above `MAX_PIXELS` or `MAX_BYTES`, without a face
            where one is required; a `DataError`.
        ModelError: faces are to be aligned, and the packages for that are missing.
    """
    from PIL import UnidentifiedImageError

    if isinstance(source, DataFile):
        name = name or source.name
    try:
        return _decode(source, preprocessor)
    except ModelError:  # a missing package is no fault of the image
        raise
    except UnidentifiedImageError:
        heic = os.path.splitext(name or str(source))[1].lower() in HEIC_SUFFIXES and not reads_heic()
        reason = NO_HEIC if heic else "not an image that Pillow can read"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        # Pillow's decoders raise all kinds of exceptions on damaged bytes.
        reason = str(error) or type(error).__name__
    raise BadImage(name or (str(source) if isinstance(source, Path) else "image"), reason) from None


def _decode(source: ImageInput, preprocessor: ImagePreprocessor) -> Tensor:
    from PIL import Image, ImageOps

    reads_heic()

    if isinstance(source, DataFile):
        if source.size > MAX_BYTES:
            raise ValueError(f"{source.size:,} bytes, above the limit of {MAX_BYTES:,}")
        source = source.read()
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source)
    elif source == b"" or (isinstance(source, Path) and source.stat().st_size == 0):
        raise ValueError("the file is empty")
    elif isinstance(source, bytes):
        source = io.BytesIO(source)
    image = source if isinstance(source, Image.Image) else Image.open(source)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, above the limit of {MAX_PIXELS:,}")
    size = (preprocessor.image_size, preprocessor.image_size)
    resampling = Image.Resampling[preprocessor.interpolation.upper()]
    if preprocessor.resize_first is None:
        # A JPEG can be decoded at a half, quarter or eighth; twice the size leaves room for antialiasing.
        wanted = round(2 * preprocessor.image_size / preprocessor.center_crop)
        if preprocessor.align_faces != "none":
            wanted = max(wanted, LONGEST_SIDE)
        image.draft(None, (wanted, wanted))
    image.load()
    image = _plain(ImageOps.exif_transpose(image)).convert("L" if preprocessor.channels == 1 else "RGB")
    if preprocessor.align_faces != "none":
        face = align_face(image.convert("RGB"), preprocessor.image_size)
        if face is not None:
            return _to_tensor(face.convert(image.mode))
        if preprocessor.align_faces == "required":
            raise ValueError(NO_FACE)
    if preprocessor.center_crop < 1:
        (left, right), (top, bottom) = (center_range(side, preprocessor.center_crop) for side in image.size)
        image = image.crop((left, top, right, bottom))
    if preprocessor.resize_first is not None:
        return _resize_first(image, preprocessor, preprocessor.resize_first)
    if preprocessor.resize == "crop":
        image = ImageOps.fit(image, size, resampling)
    elif preprocessor.resize == "pad":
        image = ImageOps.pad(image, size, resampling)
    elif image.size != size:
        image = image.resize(size, resampling)
    return _to_tensor(image)


def _resize_first(image: Image, preprocessor: ImagePreprocessor, how: ResizeFirst) -> Tensor:
    """An image in the mode of the model to uint8 `[C, H, W]`, with the very pixels of the model's library."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    side, on_tensors = preprocessor.image_size, how.backend == "torchvision"
    height, width = resized_sides(image.height, image.width, preprocessor.resize, how.size)
    named = preprocessor.interpolation  # torchvision's plain "nearest" is off by half a pixel from Pillow's
    mode = InterpolationMode("nearest-exact" if named == "nearest" else named)
    pixels: Any = _to_tensor(image) if on_tensors else image
    pixels = F.resize(pixels, [height, width], interpolation=mode, antialias=True)
    missing = max(side - width, 0), max(side - height, 0)
    if any(missing):
        ends = [n // 2 for n in missing] + [(n + 1) // 2 for n in missing]
        fill = how.fill if preprocessor.channels == 3 else how.fill[:1]
        pixels = F.pad(pixels, ends, fill=list(fill))
        height, width = max(height, side), max(width, side)
    # Of the two middle places, transformers takes the first; torchvision rounds halves to even.
    top, left = ((n - side) // 2 if on_tensors else round((n - side) / 2) for n in (height, width))
    pixels = F.crop(pixels, top, left, side, side)
    return pixels if on_tensors else _to_tensor(pixels)


def resized_sides(height: int, width: int, resize: Resize, size: int) -> tuple[int, int]:
    """Height and width of an image after resizing, rounded as torchvision (`crop`) and timm (`pad`) do."""
    if resize == "stretch":
        return size, size
    if resize == "pad":
        longer = max(height, width)
        return max(1, round(height * size / longer)), max(1, round(width * size / longer))
    longer = int(size * max(height, width) / min(height, width))
    return (longer, size) if height > width else (size, longer)


def _to_tensor(image: Image) -> Tensor:
    """A gray or color image as uint8 `[C, H, W]`."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def resize_squares(images: Tensor, preprocessor: ImagePreprocessor) -> Tensor:
    """Resize many square gray images at once, to exactly the pixels that `read_image` gives for each.

    Pillow resizes rows and columns independently, so a stack of images can be resized as one.

    Args:
        images: uint8 `[S, N, N]`.
        preprocessor: size and channels; all ways to resize are the same for squares.

    Returns:
        uint8 `[S, C, H, W]`.
    """
    from PIL import Image

    if (preprocessor.resize_first is not None or preprocessor.align_faces != "none") and len(images):
        return torch.stack([_decode(image.numpy(), preprocessor) for image in images])
    first, last = center_range(images.shape[1], preprocessor.center_crop)
    stack, size = images[:, first:last, first:last].numpy(), preprocessor.image_size
    resampling = Image.Resampling[preprocessor.interpolation.upper()]
    if stack.size and stack.shape[1] != size:
        for _ in ("rows", "columns"):
            count, h, w = stack.shape
            image = Image.fromarray(stack.reshape(count * h, w))
            image = image.resize((size, count * h), resampling)
            stack = np.array(image).reshape(count, h, size).transpose(0, 2, 1)
    resized = torch.from_numpy(stack.reshape(len(images), 1, size, size))
    return resized.repeat(1, preprocessor.channels, 1, 1)


def _plain(image: Image) -> Image:
    """An 8-bit image without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError(f"gray values {values.min()} to {values.max()} do not fit 16 bits")
        values[values == image.info.get("transparency", -1)] = 65535
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def decode_readable(
    images: ImageSequence, preprocessor: ImagePreprocessor, label: str, skipped: list[str]
) -> Iterator[tuple[int, Tensor]]:
    """Decode images in a few threads, with progress; yields the number and pixels of every readable image.

    Args:
        images: whatever `read_image` takes, by number.
        preprocessor: size, channels and how to resize.
        label: for the progress bar, and to name images without a name (`label[17]`).
        skipped: receives the names of unreadable images if they are to be skipped.

    Raises:
        DataError: an image cannot be read, and bad images are not skipped.
    """

    def decode(number: int) -> Tensor | BadImage:
        try:
            return read_numbered(images, number, preprocessor, label)
        except BadImage as error:
            return error

    work = map_in_threads(decode, range(len(images)))
    for number, decoded in enumerate(progress(work, label, len(images), "images")):
        if isinstance(decoded, Tensor):
            yield number, decoded
        elif preprocessor.on_bad_image == "skip":
            skipped.append(decoded.name)
        else:
            raise not_skipped(decoded)


def not_skipped(error: BadImage) -> DataError:
    """The error of an image that cannot be read where such images are not skipped, with the way to do that."""
    as_it_is = "data.align_faces=when_found takes it as it is, " if NO_FACE in str(error) else ""
    return DataError(
        f"{error} ({as_it_is}data.on_bad_image=skip, or vlfew data show --skip-bad, skips such images)"
    )


def read_numbered(images: ImageSequence, number: int, preprocessor: ImagePreprocessor, label: str) -> Tensor:
    """Decode image `number` to uint8 `[C, H, W]`; messages call it `label[number]` if it has no name."""
    name = f"{label}[{number}]"
    try:
        image = images[number]
    except Exception as error:
        # A foreign data set may read files here and fail in any way.
        raise BadImage(name, str(error)) from None
    return read_image(image, preprocessor, "" if isinstance(image, (Path, DataFile)) else name)


def read_many(
    sources: ImageSequence, preprocessor: ImagePreprocessor, label: str
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Decode many images; unreadable ones are handled as `preprocessor.on_bad_image` says.

    Args:
        sources: S inputs of `read_image`.
        preprocessor: size, channels and how to resize.
        label: for the progress bar.

    Returns:
        The images, uint8 `[K, C, H, W]`; their numbers `[K]`; the names of skipped ones.

    Raises:
        DataError: an image cannot be read, and bad images are not skipped.
    """
    images = torch.empty((len(sources), *preprocessor.shape), dtype=torch.uint8)
    numbers: list[int] = []
    skipped: list[str] = []
    for number, image in decode_readable(sources, preprocessor, label, skipped):
        images[len(numbers)] = image
        numbers.append(number)
    return images[: len(numbers)], torch.tensor(numbers, dtype=torch.int64), tuple(skipped)
