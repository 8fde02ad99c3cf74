"""Hashes of the content of files, remembered beside the cache so that an unchanged file is read once.

A file is unchanged if its size, modification time and status change time are those at the time of its hash. The last
one changes at every write and cannot be set back.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlfew.core.console import log_not_cached
from vlfew.core.files import write_atomic
from vlfew.core.progress import progress
from vlfew.data.data_root import cache_dir
from vlfew.data.image_files import DataFile, digest
from vlfew.data.threads import map_in_threads

_hash_anew = ContextVar("_hash_anew", default=False)
_SETTLED_NS = 2 * 10**9
"""A file that changed this shortly before it was read might change again without a new time."""


@contextmanager
def verified(verify: bool = True) -> Iterator[None]:
    """Reads every file again in the block, whatever is remembered of it."""
    token = _hash_anew.set(verify)
    try:
        yield
    finally:
        _hash_anew.reset(token)


def verifying() -> bool:
    """Whether this is a block of `verified`."""
    return _hash_anew.get()


def hash_bytes(content: bytes | memoryview) -> int:
    """A 64-bit hash as a signed integer."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def hash_images(images: Tensor) -> Tensor:
    """64-bit hash `[S]`, int64, of the pixels of each image of `[S, ...]`."""
    rows = np.ascontiguousarray(images.numpy())

    hashes = list(map_in_threads(lambda row: hash_bytes(row.tobytes()), list(rows)))
    return torch.tensor(hashes, dtype=torch.int64)


def hash_files(files: Sequence[DataFile]) -> list[int]:
    """64-bit hash of the content of each file; that of an unreadable file is of its name."""
    numbers_of: dict[str, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        numbers_of[file.container].append(number)
    hashes = [0] * len(files)
    for container, numbers in numbers_of.items():
        found = _hash_in([files[number] for number in numbers], container)
        for number, value in zip(numbers, found, strict=True):
            hashes[number] = value
    return hashes


def _hash_in(files: list[DataFile], container: str) -> list[int]:
    """`hash_files` of files in one folder or archive, whose hashes are remembered in one file."""
    path = cache_dir() / "hashes" / f"{digest(container)}.json"
    remembered = _read(path)
    keys = [[file.size, *file.stamp] for file in files]
    hashes: dict[int, int] = {}
    for number, (file, key) in enumerate(zip(files, keys, strict=True)):
        known = remembered.get(file.name)
        if (
            isinstance(known, list)
            and known[:-1] == key
            and isinstance(known[-1], int)
            and not _hash_anew.get()
        ):
            hashes[number] = known[-1]
    missing = [number for number in range(len(files)) if number not in hashes]
    if not missing:
        return [hashes[number] for number in range(len(files))]
    settled = time.time_ns() - _SETTLED_NS
    work = map_in_threads(_hash_file, [files[number] for number in missing])
    made = progress(work, "hashing files", len(missing), "files")
    try:
        for number, value in zip(missing, made, strict=True):
            file = files[number]
            hashes[number] = (
                hash_bytes(file.name.encode("utf-8", "surrogateescape")) if value is None else value
            )
            # Windows has the time of creation in place of that of the last change.
            if value is not None and max(file.stamp) < settled and os.name != "nt":
                remembered[file.name] = [*keys[number], value]
    finally:  # also of what was hashed before an interruption
        if os.path.isdir(container):
            listed = {file.name for file in files}
            remembered = {
                name: known
                for name, known in remembered.items()
                if name in listed or os.path.lexists(os.path.join(container, name))
            }
        try:
            write_atomic(path, json.dumps(remembered))
        except OSError as error:
            log_not_cached("hashes of files are not remembered", error)
    return [hashes[number] for number in range(len(files))]


def _read(path: Path) -> dict[str, list[int]]:
    try:
        remembered = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _hash_file(file: DataFile) -> int | None:
    """None for a file that cannot be read."""
    try:
        return hash_bytes(file.read())
    except Exception:  # archives raise many types; decoding reports the file
        return None
