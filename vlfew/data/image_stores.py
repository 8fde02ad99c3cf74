"""Image stores: images in memory, or decoded on demand for data sets that do not fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vlfew.data.cache import read_cached
from vlfew.data.decode import (
    ImageSequence,
    decode_all,
    read_many,
    read_numbered,
    resize_squares,
    skipped_name,
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
        cache_mb: size of the cache of decoded images, in MiB.
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
        c, h, w = self.shape
        capacity = max(1, cache_mb * MEBIBYTE // (c * h * w))
        self._decode_cached = lru_cache(capacity)(
            partial(read_numbered, images, preprocessor=preprocessor, label=label)
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.preprocessor.channels, self.preprocessor.image_size, self.preprocessor.image_size

    @property
    def nbytes(self) -> int:
        c, h, w = self.shape
        return self._decode_cached.cache_info().currsize * c * h * w

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
        threads = 1 if get_worker_info() is not None else min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            # Each image once: repeated numbers would be decoded twice at the same time.
            decoded = dict(
                zip(once := list(dict.fromkeys(numbers)), pool.map(self._decode_cached, once), strict=True)
            )
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
        return self.preprocessor.channels, self.preprocessor.image_size, self.preprocessor.image_size

    @property
    def nbytes(self) -> int:
        return self.images.numel()

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        """Images `index [B]` as uint8 `[B, C, H, W]`."""
        return resize_squares(self.images[index], self.preprocessor)


class Subset:
    """A selection of `images` by number."""

    def __init__(self, images: ImageSequence, numbers: Sequence[int]) -> None:
        self.images, self.numbers = images, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Any:
        return self.images[self.numbers[number]]


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
    size = len(sources) * preprocessor.channels * preprocessor.image_size**2
    if size <= memory_limit_mb * MEBIBYTE:
        files = isinstance(sources, list) and all(isinstance(p, DataFile) for p in sources)
        if files or identity is not None:
            images, kept, skipped = read_cached(sources, preprocessor, label, identity)
        else:
            images, kept, skipped = read_many(sources, preprocessor, label)
        return InMemory(images), kept, skipped
    if preprocessor.on_bad_image == "error":
        return DecodedOnDemand(sources, preprocessor, label), torch.arange(len(sources)), ()
    good: list[int] = []
    bad: list[str] = []
    for number, decoded in enumerate(decode_all(sources, preprocessor, label)):
        if isinstance(decoded, Tensor):
            good.append(number)
        else:
            bad.append(skipped_name(decoded, preprocessor))
    return (
        DecodedOnDemand(Subset(sources, good), preprocessor, label),
        torch.tensor(good, dtype=torch.int64),
        tuple(bad),
    )
