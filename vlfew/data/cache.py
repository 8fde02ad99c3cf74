"""Decoded images kept between starts, in the user's cache folder.

One safetensors file for a list of images and a way of reading them. It is mapped, copy-on-write, so
a start costs a check of the bytes and no decoding.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from vlfew.core.files import atomic_file
from vlfew.data.data_root import cache_dir
from vlfew.data.decode import DECODER_VERSION, ImageSequence, read_many
from vlfew.data.image_files import digest
from vlfew.data.preprocess import ImagePreprocessor

_log = logging.getLogger(__name__)
_BLOCK = 2**24
"""Bytes that a thread checks at a time."""


def read_cached(
    images: ImageSequence, preprocessor: ImagePreprocessor, label: str, identity: object = None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """`read_many`, from the cache where the same images were read so before.

    A damaged cache file is read anew; a cache that cannot be written is done without.

    Args:
        images: S of whatever `read_image` takes, by number.
        preprocessor: how to read them; its seed plays no part.
        label: what is being read, for the progress bar.
        identity: plain values that change when the images do; None for a list of files, which is
            known by their names, sizes and stamps.

    Returns:
        The images, uint8 `[K, C, H, W]`; their numbers `[K]`; the names of those left out.
    """
    path = cache_file(images, preprocessor, identity)
    found = _load(path)
    if found is None:
        found = read_many(images, preprocessor, label)
        _save(path, *found)
    return found


def cache_file(images: ImageSequence, preprocessor: ImagePreprocessor, identity: object = None) -> Path:
    """Where the decoded images are kept."""
    # The seed has no part in the pixels.
    how = (DECODER_VERSION, *(v for k, v in vars(preprocessor).items() if k != "seed"))
    if identity is None:
        files = (images[n] for n in range(len(images)))
        identity = [(file.name, file.size, file.stamp) for file in files]
    return cache_dir() / "decoded" / f"{digest(how, identity)}.safetensors"


def _load(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            images, kept = file.get_tensor("images"), file.get_tensor("kept")
            told = file.metadata()
        if int(told["crc32"]) != _crc32(images):
            raise ValueError("checksum differs")
        return images, kept, tuple(json.loads(told["skipped"]))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        _log.info("decoded images in %s are read anew: %s", path, error)
        return None


def _save(path: Path, images: Tensor, kept: Tensor, skipped: tuple[str, ...]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    told = {"crc32": str(_crc32(images)), "skipped": json.dumps(skipped)}
    try:
        with atomic_file(path) as temporary:
            save_file({"images": images, "kept": kept}, temporary, told)
    except (SafetensorError, OSError) as error:
        _log.info("decoded images are not kept in %s: %s", path, error)


def _crc32(images: Tensor) -> int:
    """Over the sums of blocks, which several threads work out."""
    content = images.numpy().reshape(-1)
    blocks = [content[n : n + _BLOCK].data for n in range(0, len(content), _BLOCK)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return zlib.crc32(repr(list(pool.map(zlib.crc32, blocks))).encode())
