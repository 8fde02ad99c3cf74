"""Work on many items in a few threads: decoding and hashing release Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")
THREADS = min(8, os.cpu_count() or 1)
BLOCK = 32
"""Items per task."""


def map_in_threads(function: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
    """The results of a function for many items, in order.

    Work is handed out in windows: it does not run far ahead of consumption, and an interruption does not wait for all.
    """
    blocks = [items[n : n + BLOCK] for n in range(0, len(items), BLOCK)]

    def work(block: Sequence[Any]) -> list[T]:
        return [function(item) for item in block]

    with ThreadPoolExecutor(THREADS) as pool:
        for at in range(0, len(blocks), 4 * THREADS):
            yield from chain.from_iterable(pool.map(work, blocks[at : at + 4 * THREADS]))
