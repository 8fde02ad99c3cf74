"""The middle of a feature map in place of all of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlfew.core.checks import check_range
from vlfew.core.errors import ModelError
from vlfew.data.preprocess import center_range


class CenterPool(nn.Module):
    """The average over the center of a feature map: what a photograph is of is mostly in its middle.

    Unlike a crop of the image, the center is seen with its surroundings.

    Args:
        fraction: of each side.
    """

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, features: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C]`."""
        rows, columns = (slice(*center_range(side, self.fraction)) for side in features.shape[2:])
        return features[:, :, rows, columns].mean((2, 3))


def replace_pooling(model: Any, fraction: float) -> None:
    """Replaces the average over the feature map at the end of a timm network.

    Args:
        model: with `global_pool`.
        fraction: of each side that is averaged; 1 changes nothing.

    Raises:
        ConfigError: a fraction outside 0 to 1.
        ModelError: the network ends otherwise.
    """
    from timm.layers import SelectAdaptivePool2d

    check_range("pool_center", fraction, 0, 1)
    if fraction == 1:
        return
    pool = getattr(model, "global_pool", None)
    if not isinstance(pool, SelectAdaptivePool2d) or pool.pool_type != "avg":
        raise ModelError("pool_center needs a network that averages its feature map at the end; leave it out")
    model.global_pool = CenterPool(fraction)
