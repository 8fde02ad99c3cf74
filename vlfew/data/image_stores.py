"""Images that are made when they are asked for: for sets that memory cannot hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from vlfew.data.cache import read_cached
from vlfew.data.decode import ImageSequence, decode_all, left_out, read_many, read_numbered, resize_squares
from vlfew.data.image_files import DataFile
from vlfew.data.labeled_images import ImageStore, InMemory
from vlfew.data.preprocess import ImagePreprocessor

MEBIBYTE = 2**20


class Decoded:
    """An `ImageStore` that decodes on `batch`, in a few threads, and keeps the latest images.

    Args:
        images: paths, bytes or Pillow images by number: a list, a column of a Hugging Face
            data set, or anything with `len` and `[number]`.
        preprocessor: how to read them.
        label: called `label[17]` in messages where an image has no name of its own.
        keep_mb: decoded images held, in MiB.
    """

    def __init__(
        self,
        images: ImageSequence,
        preprocessor: ImagePreprocessor,
        label: str = "image",
        *,
        keep_mb: int = 512,
    ) -> None:
        self.images, self.preprocessor, self.label, self.keep_mb = images, preprocessor, label, keep_mb
        c, h, w = self.shape
        keep = max(1, keep_mb * MEBIBYTE // (c * h * w))
        self._one = lru_cache(keep)(partial(read_numbered, images, preprocessor=preprocessor, label=label))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.preprocessor.channels, self.preprocessor.image_size, self.preprocessor.image_size

    @property
    def nbytes(self) -> int:
        c, h, w = self.shape
        return self._one.cache_info().currsize * c * h * w

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        """Images `index [B]` as uint8 `[B, C, H, W]`.

        Raises:
            DataError: one of them cannot be read; names it.
        """
        if not len(index):
            return torch.empty((0, *self.shape), dtype=torch.uint8)
        numbers = index.tolist()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            # Each image once: a number twice in a batch would be decoded twice at the same time.
            decoded = dict(zip(once := list(dict.fromkeys(numbers)), pool.map(self._one, once), strict=True))
        return torch.stack([decoded[number] for number in numbers])

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Decoded, keep_mb=self.keep_mb), (self.images, self.preprocessor, self.label)


@dataclass(frozen=True)
class Squares:
    """An `ImageStore` of small square gray images, held as they are and resized on `batch`.

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


class Chosen:
    """Some of `images`, by number."""

    def __init__(self, images: ImageSequence, numbers: Sequence[int]) -> None:
        self.images, self.numbers = images, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Any:
        return self.images[self.numbers[number]]


def hold(
    sources: ImageSequence,
    preprocessor: ImagePreprocessor,
    label: str,
    memory_limit_mb: int,
    identity: object = None,
) -> tuple[ImageStore, Tensor, tuple[str, ...]]:
    """Images in memory where they fit, else decoded as they are asked for.

    Files, and images with an identity, are read by way of the cache of decoded images. What does
    not fit is not touched before it is asked for, except with `on_bad_image: skip`, which takes a look
    at all.

    Args:
        sources: S images by number.
        preprocessor: how to read them.
        label: what is being read, for the progress bar.
        memory_limit_mb: the most that decoded images may take, in MiB.
        identity: plain values that change when the images do, if there are such; files have their own.

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
        return Decoded(sources, preprocessor, label), torch.arange(len(sources)), ()
    good: list[int] = []
    bad: list[str] = []
    for number, decoded in enumerate(decode_all(sources, preprocessor, label)):
        if isinstance(decoded, Tensor):
            good.append(number)
        else:
            bad.append(left_out(decoded, preprocessor))
    return (
        Decoded(Chosen(sources, good), preprocessor, label),
        torch.tensor(good, dtype=torch.int64),
        tuple(bad),
    )
