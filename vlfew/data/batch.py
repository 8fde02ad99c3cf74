"""A batch as numbers, not images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a sampler draws.

    Attributes:
        index: `[B]` image numbers.
        labels: `[B]` data class number of each image.
        words: `[T]` data class numbers whose words go with the batch, distinct.
        text: `[T]` which of a class's texts stands for it this time.
        pairs: `i [M]`, `j [M]` within the batch and `same [M]` bool, where the batch was drawn for
            certain pairs.
    """

    index: Tensor
    labels: Tensor
    words: Tensor
    text: Tensor
    pairs: tuple[Tensor, Tensor, Tensor] | None = None
