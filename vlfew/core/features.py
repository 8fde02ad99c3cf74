"""The output of an encoder for a batch, and its sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import ModelError, VlfewError


@dataclass(frozen=True)
class FeatureSpec:
    """Sizes of an image encoder's output; similarities and losses with weights are built from it.

    Attributes:
        dim: D of `embedding [B, D]`.
        map: `(C, H, W)` of `map [B, C, H, W]`, where the model has one.
        averaged: whether the embedding is exactly that map, averaged over positions.
    """

    dim: int
    map: tuple[int, int, int] | None = None
    averaged: bool = False

    def require_map(self, who: str) -> tuple[int, int, int]:
        """The sizes of the feature map.

        Raises:
            VlfewError: the model has none.
        """
        if self.map is None:
            raise VlfewError(
                f"{who} needs features.map, which this model does not provide; choose a convolutional backbone "
                "(conv4, koch, resnet12)"
            )
        return self.map


@dataclass
class Features:
    """An encoder's output for a batch.

    Attributes:
        embedding: `[..., D]`, not normalized.
        map: `[..., C, H, W]`, the last feature map, where the model has one.
        logits: `[..., classes]` of a classifier over the training classes, where there is one.
        tokens: `[..., T, D]` token embeddings, where the model has them.
    """

    embedding: Tensor
    map: Tensor | None = None
    logits: Tensor | None = None
    tokens: Tensor | None = None

    def require(self, part: str, who: str) -> Tensor:
        """The named part.

        Raises:
            VlfewError: the model does not provide it; lists what it provides.
        """
        value = getattr(self, part)
        if value is None:
            given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
            raise VlfewError(
                f"{who} needs features.{part}, which this model does not provide (it provides {', '.join(given)})"
            )
        return value

    def check_finite(self, what: str) -> None:
        """Checks that no embedding `[S, D]` or map has NaN or infinity.

        Args:
            what: was encoded ("images of folder test"), for the message.

        Raises:
            ModelError: some have; says how many.
        """
        finite = self.embedding.isfinite().all(1)
        if self.map is not None:
            finite &= self.map.isfinite().flatten(1).all(1)
        if broken := int((~finite).sum()):
            raise ModelError(
                f"the model gives NaN or infinity for {broken} of {len(finite)} {what}; its weights are damaged, or it "
                "was trained with too high a learning rate"
            )

    def apply(self, function: Callable[[Tensor], Tensor]) -> Features:
        """Apply `function` to every part that is present."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: None if v is None else function(v) for k, v in parts.items()}
        return Features(**changed)

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Features:
        return self.apply(lambda t: t[index])

    @staticmethod
    def cat(parts: list[Features]) -> Features:
        """Concatenate along the batch dimension."""
        names = [f.name for f in fields(Features) if getattr(parts[0], f.name) is not None]
        return Features(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})
