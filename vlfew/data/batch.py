"""A training batch as indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What a batch sampler draws; torch's DataLoader pins the memory of named tuples.

    Attributes:
        index: `[B]` image numbers.
        labels: `[B]` class of each image.
        text_classes: `[T]` distinct classes whose texts are part of the batch.
        text_choice: `[T]` which of the texts of that class is used.
        pairs: `i [M]` and `j [M]`, positions within the batch, and `same [M]` bool; None unless the batch consists of
            pairs.
    """

    index: Tensor  # type: ignore[assignment]  # tuples have a method of this name
    labels: Tensor
    text_classes: Tensor
    text_choice: Tensor
    pairs: Sequence[Tensor] | None = None
