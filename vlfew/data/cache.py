"""A cache of decoded images in the user's cache folder.

There is one safetensors file per list of images and preprocessor. It is memory-mapped, copy-on-write, so a later start
checks the bytes and decodes nothing.
"""

from __future__ import annotations

import json
import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from vlfew.core.files import atomic_file
from vlfew.data.data_root import cache_dir
from vlfew.data.decode import DECODER_VERSION, THREADS, ImageSequence, read_many
from vlfew.data.image_files import digest
from vlfew.data.preprocess import ImagePreprocessor

_log = logging.getLogger(__name__)
_BLOCK = 2**24
"""Bytes per thread task of the checksum."""


def read_cached(
    images: ImageSequence, preprocessor: ImagePreprocessor, label: str, identity: object = None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """`read_many` through the cache.

    If the cache file is damaged, images are decoded again; a cache that cannot be written is ignored.

    Args:
        images: S inputs of `read_image`.
        preprocessor: size, channels and how to resize; its seed does not matter.
        label: for the progress bar.
        identity: plain values that change when the images change; None for a list of files, which are identified by
            name, size and stamp.

    Returns:
        The images, uint8 `[K, C, H, W]`; their numbers `[K]`; the names of skipped ones.
    """
    path = cache_file(images, preprocessor, identity)
    decoded = _load(path)
    if decoded is None:
        decoded = read_many(images, preprocessor, label)
        _save(path, *decoded)
    return decoded


def cache_file(images: ImageSequence, preprocessor: ImagePreprocessor, identity: object = None) -> Path:
    """The cache file of decoded images."""
    # The seed does not change pixels.
    decoder = (DECODER_VERSION, *(v for k, v in vars(preprocessor).items() if k != "seed"))
    if identity is None:
        files = (images[n] for n in range(len(images)))
        identity = [(file.name, file.size, file.stamp) for file in files]
    return cache_dir() / "decoded" / f"{digest(decoder, identity)}.safetensors"


def _load(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            images, numbers = file.get_tensor("images"), file.get_tensor("kept")
            metadata = file.metadata()
        if int(metadata["crc32"]) != _crc32(images):
            raise ValueError("checksum differs")
        return images, numbers, tuple(json.loads(metadata["skipped"]))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        _log.info("decoded images in %s are ignored and decoded again: %s", path, error)
        return None


def _save(path: Path, images: Tensor, numbers: Tensor, skipped: tuple[str, ...]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    metadata = {"crc32": str(_crc32(images)), "skipped": json.dumps(skipped)}
    try:
        with atomic_file(path) as temporary:
            save_file({"images": images, "kept": numbers}, temporary, metadata)
    except (SafetensorError, OSError) as error:
        _log.info("decoded images cannot be cached in %s: %s", path, error)


def _crc32(images: Tensor) -> int:
    """A checksum of the checksums of blocks, computed in several threads."""
    content = images.numpy().reshape(-1)
    blocks = [content[n : n + _BLOCK].data for n in range(0, len(content), _BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return zlib.crc32(repr(list(pool.map(zlib.crc32, blocks))).encode())
