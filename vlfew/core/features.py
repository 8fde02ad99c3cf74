"""What a stream gives for a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import VlfewError


@dataclass(frozen=True)
class FeatureSpec:
    """The sizes of what an image stream gives: where scorers and losses with weights of their own live.

    Attributes:
        dim: D of `embedding [B, D]`.
        map: `(C, H, W)` of `map [B, C, H, W]`, where the model gives one.
        averaged: whether the embedding is that map, averaged over positions, and nothing else.
    """

    dim: int
    map: tuple[int, int, int] | None = None
    averaged: bool = False

    def require_map(self, who: str) -> tuple[int, int, int]:
        """The sizes of the map.

        Raises:
            VlfewError: the model does not give one.
        """
        if self.map is None:
            raise VlfewError(
                f"{who} needs features.map, which this model does not give; choose a backbone of "
                "convolutions (conv4, koch, resnet12)"
            )
        return self.map


@dataclass
class Features:
    """A stream's answer for a batch; objectives and scorers take from it what they need.

    Attributes:
        embedding: `[..., D]` vectors, not normalized.
        map: `[..., C, H, W]` the last feature map, where the model has one.
        logits: `[..., classes]` of a classifier over the training classes, where there is one.
        tokens: `[..., T, D]` token vectors, where the model has them.
    """

    embedding: Tensor
    map: Tensor | None = None
    logits: Tensor | None = None
    tokens: Tensor | None = None

    def need(self, part: str, who: str) -> Tensor:
        """The named part.

        Raises:
            VlfewError: the model does not give it; says which parts it gives.
        """
        value = getattr(self, part)
        if value is None:
            given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
            raise VlfewError(
                f"{who} needs features.{part}, which this model does not give (it gives {', '.join(given)})"
            )
        return value

    def apply(self, function: Callable[[Tensor], Tensor]) -> Features:
        """`function` over every part that is there."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: None if v is None else function(v) for k, v in parts.items()}
        return Features(**changed)

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Features:
        return self.apply(lambda t: t[index])

    @staticmethod
    def cat(parts: list[Features]) -> Features:
        """Joined along the batch."""
        names = [f.name for f in fields(Features) if getattr(parts[0], f.name) is not None]
        return Features(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})
