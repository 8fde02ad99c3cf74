"""CBAM, the convolutional block attention module (Woo, Park, Lee and Kweon 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError

REDUCTION = 16
"""r of the paper: the shared layers are `C -> C/r -> C`; of fewer than r channels one is left."""
KERNEL = 7
"""Side of the spatial attention's convolution."""


class Cbam(nn.Module):
    """Channel attention, then spatial attention; both multiply the maps.

    `2 C max(1, C // 16) + 2 * 7 * 7` parameters: equations 2 and 3 have no biases.

    Args:
        channels: C of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.shared = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )
        self.spatial = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same shape; equation 1."""
        maps = maps * self.channel_attention(maps)
        return maps * self.spatial_attention(maps)

    def channel_attention(self, maps: Tensor) -> Tensor:
        """`[B, C, 1, 1]` in 0..1, equation 2."""
        pooled = self.shared(maps.mean((2, 3))) + self.shared(maps.amax((2, 3)))
        return torch.sigmoid(pooled)[:, :, None, None]

    def spatial_attention(self, maps: Tensor) -> Tensor:
        """`[B, 1, H, W]` in 0..1, equation 3."""
        described = torch.stack([maps.mean(1), maps.amax(1)], dim=1)
        return torch.sigmoid(self.spatial(described))


def check_places(chosen: Sequence[int], last: int, places: str) -> list[int]:
    """The numbers of the places that CBAM is put at.

    Args:
        chosen: as configured.
        last: the places there are have the numbers 1 to `last`.
        places: what they are ("conv4's blocks").

    Raises:
        ModelError: a number without a place, or one given twice.
    """
    wrong = [n for n in chosen if not 1 <= n <= last]
    if wrong or len(set(chosen)) < len(chosen):
        fault = f"{wrong[0]} is none of them" if wrong else "one is given twice"
        raise ModelError(f"cbam is {list(chosen)}; it names {places}, 1 to {last}, and {fault}")
    return sorted(chosen)
