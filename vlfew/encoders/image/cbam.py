"""CBAM, the convolutional block attention module (Woo, Park, Lee and Kweon 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from vlfew.core.errors import ModelError

REDUCTION = 16
"""r of the paper: the shared layers are `C -> C/r -> C`; with fewer than r channels the hidden layer has one unit."""
KERNEL = 7
"""Kernel size of the spatial attention's convolution."""


class Cbam(nn.Module):
    """Channel attention, then spatial attention; both multiply the feature map.

    `2 C max(1, C // 16) + 2 * 7 * 7` parameters: equations 2 and 3 have no biases.

    Args:
        channels: C of the feature maps.
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
        mean, largest = (reduce(maps, "b c h w -> b c", how) for how in ("mean", "max"))
        weights = torch.sigmoid(self.shared(mean) + self.shared(largest))
        return rearrange(weights, "b c -> b c 1 1")

    def spatial_attention(self, maps: Tensor) -> Tensor:
        """`[B, 1, H, W]` in 0..1, equation 3."""
        pooled = torch.stack([maps.mean(1), maps.amax(1)], dim=1)
        return torch.sigmoid(self.spatial(pooled))


def check_cbam_positions(numbers: Sequence[int], last: int, positions: str) -> list[int]:
    """Checks where CBAM modules are placed; returns the positions in ascending order.

    Args:
        numbers: as configured.
        last: positions are numbered 1 to `last`.
        positions: what they are, for the message ("conv4's blocks").

    Raises:
        ModelError: an unknown position, or one given twice.
    """
    unknown = [n for n in numbers if not 1 <= n <= last]
    if unknown or len(set(numbers)) < len(numbers):
        problem = f"{unknown[0]} is not among them" if unknown else "one is given twice"
        raise ModelError(f"cbam is {list(numbers)}; it lists {positions}, 1 to {last}, and {problem}")
    return sorted(numbers)
