"""Counter-based random numbers: a draw depends on the seed and on a name for its place, and on nothing else.

No generator state is consumed, so nothing depends on earlier draws, on the number of processes, or on where a run
was interrupted.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_at(seed: int, *place: int | str) -> int:
    """A 63-bit seed for a place: `seed_at(0, "augment", 1200)`."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_at(seed: int, *place: int | str) -> np.random.Generator:
    """A counter-based NumPy generator for a place."""
    return np.random.Generator(np.random.Philox(key=seed_at(seed, *place)))
