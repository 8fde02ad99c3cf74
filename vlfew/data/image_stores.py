"""Image stores: images in memory, or decoded on demand for data sets that do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Subset, get_worker_info

from vlfew.data.cache import read_cached
from vlfew.data.decode import (
    BadImage,
    ImageSequence,
    decode_readable,
    not_skipped,
    read_many,
    read_numbered,
    resize_squares,
)
from vlfew.data.file_hashes import hash_files, hash_images
from vlfew.data.image_files import DataFile
from vlfew.data.labeled_images import ImageStore, InMemory
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.threads import THREADS

MEBIBYTE = 2**20


class DecodedOnDemand:
    """An `ImageStore` that decodes images on demand in a few threads, with a cache of recent ones.

    Args:
        images: paths, bytes or Pillow images by number: a list, a column of a Hugging Face
            data set, or anything with `len` and `[number]`.
        preprocessor: size, channels and how to resize.
        label: images without a name are called `label[17]` in messages.
        cache_mb: size of the cache of decoded images, in MiB, in each process: every worker of a DataLoader has its
            own.
        hashes: `[S]` of their files, if they are known.
    """

    def __init__(
        self,
        images: ImageSequence,
        preprocessor: ImagePreprocessor,
        label: str = "image",
        *,
        cache_mb: int = 512,
        hashes: Tensor | None = None,
    ) -> None:
        self.hashes = hashes
        self.images, self.preprocessor, self.label, self.cache_mb = images, preprocessor, label, cache_mb
        self.shape = preprocessor.shape
        capacity = max(1, cache_mb * MEBIBYTE // math.prod(self.shape))
        self._decode_cached = lru_cache(capacity)(
            partial(read_numbered, images, preprocessor=preprocessor, label=label)
        )

    @property
    def nbytes(self) -> int:
        return self._decode_cached.cache_info().currsize * math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        """Images `index [B]` as uint8 `[B, C, H, W]`.

        Raises:
            DataError: an image cannot be read.
        """
        if not len(index):
            return torch.empty((0, *self.shape), dtype=torch.uint8)
        numbers = index.tolist()
        # A worker process of a DataLoader decodes in one thread: there are several of them.
        threads = THREADS if get_worker_info() is None else 1
        once = list(dict.fromkeys(numbers))  # repeated numbers would be decoded twice at the same time
        try:
            with ThreadPoolExecutor(threads) as pool:
                decoded = dict(zip(once, pool.map(self._decode_cached, once), strict=True))
        except BadImage as error:
            raise not_skipped(error) from None
        return torch.stack([decoded[number] for number in numbers])

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(DecodedOnDemand, cache_mb=self.cache_mb), (self.images, self.preprocessor, self.label)


@dataclass(frozen=True)
class SquareImages:
    """An `ImageStore` of small square gray images in memory, resized on demand.

    Attributes:
        images: uint8 `[S, N, N]`.
        preprocessor: size and channels.
    """

    images: Tensor
    preprocessor: ImagePreprocessor

    @cached_property
    def hashes(self) -> Tensor:
        return hash_images(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.preprocessor.shape

    @property
    def nbytes(self) -> int:
        return self.images.numel()

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        """Images `index [B]` as uint8 `[B, C, H, W]`."""
        return resize_squares(self.images[index], self.preprocessor)


class LoadedImages(NamedTuple):
    """Images as a data set holds them.

    Attributes:
        images: K of the S sources.
        numbers: `[K]`, theirs among the S.
        skipped: names of those left out.
        hashes: of the content of all S, if they are known.
    """

    images: ImageStore
    numbers: Tensor
    skipped: tuple[str, ...]
    hashes: Sequence[int] | None


def load_images(
    sources: ImageSequence,
    preprocessor: ImagePreprocessor,
    label: str,
    memory_limit_mb: int,
    hashes: Sequence[int] | None = None,
) -> LoadedImages:
    """Load images into memory if they fit, otherwise decode them on demand.

    Files, and images whose hashes are given, go through the cache of decoded images. Images that are decoded on demand
    are not decoded here, except with `on_bad_image: skip`, which checks all of them.

    Args:
        sources: S images by number.
        preprocessor: size, channels and how to resize.
        label: for the progress bar.
        memory_limit_mb: limit of decoded images in memory, in MiB.
        hashes: of the content of each image; computed for files.

    Raises:
        DataError: an image cannot be read and bad ones are not to be skipped.
    """
    if hashes is None and isinstance(sources, list) and all(isinstance(p, DataFile) for p in sources):
        hashes = hash_files(sources)
    size = len(sources) * math.prod(preprocessor.shape)
    if size <= memory_limit_mb * MEBIBYTE:
        if hashes is not None:
            images, numbers, skipped = read_cached(sources, preprocessor, label, hashes)
        else:
            pixels, numbers, skipped = read_many(sources, preprocessor, label)
            images = InMemory(pixels)
        return LoadedImages(images, numbers, skipped, hashes)
    bad: list[str] = []
    numbers, readable = torch.arange(len(sources)), sources
    if preprocessor.on_bad_image == "skip":
        good = [number for number, _ in decode_readable(sources, preprocessor, label, bad)]
        numbers, readable = torch.tensor(good, dtype=torch.int64), Subset(sources, good)  # type: ignore[arg-type]
    known = None if hashes is None else torch.tensor(hashes, dtype=torch.int64)[numbers]
    store = DecodedOnDemand(readable, preprocessor, label, hashes=known)
    return LoadedImages(store, numbers, tuple(bad), hashes)
