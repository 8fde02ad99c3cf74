"""One comparison of a tower with a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

PIXELS, EMBEDDINGS = 1e-5, 1e-4
"""Limits of normalized pixels, and of embeddings in relation to their norm: rounding stays below on any processor."""


@dataclass(frozen=True)
class Check:
    """What was compared, and how it came out.

    Attributes:
        what: `preprocessed pixels`, `image embeddings` ...
        reference: what it was compared with.
        difference: the largest one; infinite where shapes differ or values are not finite.
        limit: that it must not exceed.
    """

    what: str
    reference: str
    difference: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the limit."""
        return self.difference <= self.limit


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Of any two values at the same place."""
    if found.shape != expected.shape:
        return inf
    difference = (found.double() - expected.double()).abs().max().item()
    return difference if difference == difference else inf  # NaN


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest norm of the difference of two rows `[N, ...]`, divided by the norm of the expected one."""
    if found.shape != expected.shape:
        return inf
    a, b = found.double().flatten(1), expected.double().flatten(1)
    size = b.norm(dim=1)
    difference = torch.where(size > 0, (a - b).norm(dim=1) / size, a.norm(dim=1)).max().item()
    return difference if difference == difference else inf


def different_tokens(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The number of texts whose inputs to the tower differ, each `[T, L]` by name."""
    common = [name for name in ("input_ids", "attention_mask") if name in found and name in expected]
    if "input_ids" not in common or any(found[name].shape != expected[name].shape for name in common):
        return inf
    differ = torch.stack([(found[name] != expected[name]).any(1) for name in common])
    return float(differ.any(0).sum())


def weight_difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest difference of any weight of two state dicts, relative to the norm of its tensor."""
    if found.keys() != expected.keys():
        return inf
    return max(
        (
            relative_difference(found[n].reshape(1, -1).float(), t.reshape(1, -1).float())
            for n, t in expected.items()
        ),
        default=0.0,
    )
