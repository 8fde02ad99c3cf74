"""A cache of decoded images in the user's cache folder.

There is one safetensors file per list of images and preprocessor. It is memory-mapped, copy-on-write, so a later start
checks the bytes and decodes nothing.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from vlfew.core.console import log_not_cached
from vlfew.core.files import atomic_file
from vlfew.data.data_root import cache_dir
from vlfew.data.decode import DECODER_VERSION, BadImage, ImageSequence, read_many, read_numbered
from vlfew.data.file_hashes import hash_images
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import InMemory
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.threads import THREADS

_log = logging.getLogger(__name__)
_BLOCK = 2**24
"""Bytes per thread task of the checksum."""


def read_cached(
    images: ImageSequence, preprocessor: ImagePreprocessor, label: str, hashes: Sequence[int]
) -> tuple[InMemory, Tensor, tuple[str, ...]]:
    """`read_many` through the cache.

    If the cache file is damaged, images are decoded again; a cache that cannot be written is ignored.

    Args:
        images: S inputs of `read_image`.
        preprocessor: size, channels and how to resize; its seed does not matter.
        label: for the progress bar.
        hashes: of the content of each.

    Returns:
        K images; their numbers `[K]`; the names of skipped ones.
    """
    path = cache_file(images, preprocessor, hashes)
    if (cached := _load(path)) is not None:
        store, numbers = cached
        still_bad = _still_unreadable(images, numbers, preprocessor, label)
        if still_bad is not None:
            return store, numbers, still_bad
    pixels, numbers, skipped = read_many(images, preprocessor, label)
    store = InMemory(pixels, hash_images(pixels))
    _save(path, store, numbers)
    return store, numbers, skipped


def _still_unreadable(
    images: ImageSequence, numbers: Tensor, preprocessor: ImagePreprocessor, label: str
) -> tuple[str, ...] | None:
    """The names of the images that are not in the cache; None if one can be read now."""
    names = []
    for number in sorted(set(range(len(images))) - set(numbers.tolist())):
        try:
            read_numbered(images, number, preprocessor, label)
        except BadImage as error:
            names.append(error.name)
        else:
            return None
    return tuple(names)


def cache_file(images: ImageSequence, preprocessor: ImagePreprocessor, hashes: Sequence[int]) -> Path:
    """The cache file of decoded images."""
    # The seed does not change pixels.
    settings = {
        k: v for k, v in vars(preprocessor).items() if k not in ("seed", "resize_first", "align_faces")
    }
    decoder = (DECODER_VERSION, *settings.values())
    if preprocessor.resize_first is not None:
        decoder += (preprocessor.resize_first.model_dump(),)
    if preprocessor.align_faces != "none":
        decoder += (preprocessor.align_faces,)
    return cache_dir() / "decoded" / f"{digest(decoder, list(hashes))}.safetensors"


def _load(path: Path) -> tuple[InMemory, Tensor] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            images, numbers, hashes = (file.get_tensor(name) for name in ("images", "kept", "hashes"))
            metadata = file.metadata()
        if int(metadata["crc32"]) != _crc32(images, numbers, hashes):
            raise ValueError("checksum differs")
        return InMemory(images, hashes), numbers
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        _log.info("decoded images in %s are ignored and decoded again: %s", path, error)
        return None


def _save(path: Path, images: InMemory, numbers: Tensor) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {"images": images.tensor, "kept": numbers, "hashes": images.hashes}
    metadata = {"crc32": str(_crc32(*tensors.values()))}
    try:
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata)
    except (SafetensorError, OSError) as error:
        log_not_cached("decoded images are not cached", error)


def _crc32(*tensors: Tensor) -> int:
    """A checksum of the checksums of blocks, computed in several threads."""
    contents = [tensor.numpy().reshape(-1) for tensor in tensors]
    blocks = [content[n : n + _BLOCK].data for content in contents for n in range(0, len(content), _BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return zlib.crc32(repr(list(pool.map(zlib.crc32, blocks))).encode())
