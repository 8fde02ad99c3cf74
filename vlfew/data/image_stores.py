"""Image stores: images in memory, or decoded on demand for data sets that do not fit."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, get_worker_info

from vlfew.data.cache import read_cached
from vlfew.data.decode import (
    THREADS,
    BadImage,
    ImageSequence,
    decode_readable,
    not_skipped,
    read_many,
    read_numbered,
    resize_squares,
)
from vlfew.data.image_files import DataFile
from vlfew.data.labeled_images import ImageStore, InMemory
from vlfew.data.preprocess import ImagePreprocessor

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
    """

    def __init__(
        self,
        images: ImageSequence,
        preprocessor: ImagePreprocessor,
        label: str = "image",
        *,
        cache_mb: int = 512,
    ) -> None:
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


def load_images(
    sources: ImageSequence,
    preprocessor: ImagePreprocessor,
    label: str,
    memory_limit_mb: int,
    identity: object = None,
) -> tuple[ImageStore, Tensor, tuple[str, ...]]:
    """Load images into memory if they fit, otherwise decode them on demand.

    Files, and images with an identity, go through the cache of decoded images. Images that are decoded on demand are
    not read here, except with `on_bad_image: skip`, which checks all of them.

    Args:
        sources: S images by number.
        preprocessor: size, channels and how to resize.
        label: for the progress bar.
        memory_limit_mb: limit of decoded images in memory, in MiB.
        identity: plain values that change when the images change; not needed for files.

    Returns:
        The images; their numbers `[K]` among the S; the names of those left out.

    Raises:
        DataError: an image cannot be read and bad ones are not to be skipped.
    """
    size = len(sources) * math.prod(preprocessor.shape)
    if size <= memory_limit_mb * MEBIBYTE:
        files = isinstance(sources, list) and all(isinstance(p, DataFile) for p in sources)
        if files or identity is not None:
            images, kept, skipped = read_cached(sources, preprocessor, label, identity)
        else:
            images, kept, skipped = read_many(sources, preprocessor, label)
        return InMemory(images), kept, skipped
    if preprocessor.on_bad_image == "error":
        return DecodedOnDemand(sources, preprocessor, label), torch.arange(len(sources)), ()
    bad: list[str] = []
    good = [number for number, _ in decode_readable(sources, preprocessor, label, bad)]
    readable: ImageSequence = Subset(sources, good)  # type: ignore[arg-type]
    return DecodedOnDemand(readable, preprocessor, label), torch.tensor(good, dtype=torch.int64), tuple(bad)
