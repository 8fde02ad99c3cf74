"""Pictures that are made when they are asked for: for sets that memory cannot hold."""

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
from vlfew.data.decode import Pictures, decode_all, left_out, read_many, read_numbered, resize_squares
from vlfew.data.images import ImageStore, InMemory
from vlfew.data.listing import DataFile
from vlfew.data.reading import Reading

MEBIBYTE = 2**20


class Decoded:
    """An `ImageStore` that decodes on `batch`, in a few threads, and keeps the latest pictures.

    Args:
        pictures: paths, bytes or Pillow images by number: a list, a column of a Hugging Face
            data set, or anything with `len` and `[number]`.
        reading: how to read them.
        label: called `label[17]` in messages where a picture has no name of its own.
        keep_mb: decoded pictures held, in MiB.
    """

    def __init__(
        self, pictures: Pictures, reading: Reading, label: str = "picture", *, keep_mb: int = 512
    ) -> None:
        self.pictures, self.reading, self.label, self.keep_mb = pictures, reading, label, keep_mb
        c, h, w = self.shape
        keep = max(1, keep_mb * MEBIBYTE // (c * h * w))
        self._one = lru_cache(keep)(partial(read_numbered, pictures, reading=reading, label=label))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.reading.channels, self.reading.image_size, self.reading.image_size

    @property
    def nbytes(self) -> int:
        c, h, w = self.shape
        return self._one.cache_info().currsize * c * h * w

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, index: Tensor) -> Tensor:
        """Pictures `index [B]` as uint8 `[B, C, H, W]`.

        Raises:
            DataError: one of them cannot be read; names it.
        """
        if not len(index):
            return torch.empty((0, *self.shape), dtype=torch.uint8)
        numbers = index.tolist()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            # Each picture once: a number twice in a batch would be decoded twice at the same time.
            decoded = dict(zip(once := list(dict.fromkeys(numbers)), pool.map(self._one, once), strict=True))
        return torch.stack([decoded[number] for number in numbers])

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Decoded, keep_mb=self.keep_mb), (self.pictures, self.reading, self.label)


@dataclass(frozen=True)
class Squares:
    """An `ImageStore` of small square grey pictures, held as they are and resized on `batch`.

    Attributes:
        pictures: uint8 `[S, N, N]`.
        reading: size and channels.
    """

    pictures: Tensor
    reading: Reading

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.reading.channels, self.reading.image_size, self.reading.image_size

    @property
    def nbytes(self) -> int:
        return self.pictures.numel()

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, index: Tensor) -> Tensor:
        """Pictures `index [B]` as uint8 `[B, C, H, W]`."""
        return resize_squares(self.pictures[index], self.reading)


class Chosen:
    """Some of `pictures`, by number."""

    def __init__(self, pictures: Pictures, numbers: Sequence[int]) -> None:
        self.pictures, self.numbers = pictures, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Any:
        return self.pictures[self.numbers[number]]


def hold(
    pictures: Pictures, reading: Reading, label: str, memory_limit_mb: int, identity: object = None
) -> tuple[ImageStore, Tensor, tuple[str, ...]]:
    """Pictures in memory where they fit, else decoded as they are asked for.

    Files, and pictures with an identity, are read by way of the cache of decoded pictures. What does
    not fit is not touched before it is asked for, except with `on_bad_image: skip`, which takes a look
    at all.

    Args:
        pictures: S pictures by number.
        reading: how to read them.
        label: what is being read, for the progress bar.
        memory_limit_mb: the most that decoded pictures may take, in MiB.
        identity: plain values that change when the pictures do, if there are such; files have their own.

    Returns:
        The pictures; their numbers `[K]` among the S; the names of those left out.

    Raises:
        DataError: a picture cannot be read and bad ones are not to be skipped.
    """
    size = len(pictures) * reading.channels * reading.image_size**2
    if size <= memory_limit_mb * MEBIBYTE:
        files = isinstance(pictures, list) and all(isinstance(p, DataFile) for p in pictures)
        if files or identity is not None:
            images, kept, skipped = read_cached(pictures, reading, label, identity)
        else:
            images, kept, skipped = read_many(pictures, reading, label)
        return InMemory(images), kept, skipped
    if reading.on_bad_image == "error":
        return Decoded(pictures, reading, label), torch.arange(len(pictures)), ()
    good: list[int] = []
    bad: list[str] = []
    for number, decoded in enumerate(decode_all(pictures, reading, label)):
        if isinstance(decoded, Tensor):
            good.append(number)
        else:
            bad.append(left_out(decoded, reading))
    return Decoded(Chosen(pictures, good), reading, label), torch.tensor(good, dtype=torch.int64), tuple(bad)
