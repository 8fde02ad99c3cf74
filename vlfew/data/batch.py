"""A training batch as indices."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a batch sampler draws.

    Attributes:
        index: `[B]` image numbers.
        labels: `[B]` class of each image.
        text_classes: `[T]` distinct classes whose texts are part of the batch.
        text_choice: `[T]` which of the texts of that class is used.
        pairs: `i [M]` and `j [M]`, positions within the batch, and `same [M]` bool; None unless the batch consists of
            pairs.
    """

    index: Tensor
    labels: Tensor
    text_classes: Tensor
    text_choice: Tensor
    pairs: tuple[Tensor, Tensor, Tensor] | None = None

    def pin_memory(self) -> Batch:
        """The batch in pinned memory, for asynchronous copies to a GPU; called by torch's DataLoader."""
        return Batch(
            self.index.pin_memory(),
            self.labels.pin_memory(),
            self.text_classes.pin_memory(),
            self.text_choice.pin_memory(),
            None if self.pairs is None else tuple(t.pin_memory() for t in self.pairs),  # type: ignore[arg-type]
        )
