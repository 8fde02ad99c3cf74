"""The middle of a feature map in place of all of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlfew.core.errors import ConfigError, ModelError
from vlfew.data.preprocess import center_range


class CenterPool(nn.Module):
    """The average over the center of a feature map: what a photograph is of is mostly in its middle.

    Unlike a crop of the image, the center is seen with its surroundings.

    Args:
        fraction: of each side.
        flatten: whether the result is `[B, C]`, or `[B, C, 1, 1]` for what follows.
    """

    def __init__(self, fraction: float, flatten: bool) -> None:
        super().__init__()
        self.fraction, self.flatten = fraction, flatten

    def forward(self, features: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C]` or `[B, C, 1, 1]`."""
        rows, columns = (slice(*center_range(side, self.fraction)) for side in features.shape[2:])
        return features[:, :, rows, columns].mean((2, 3), keepdim=not self.flatten)


def replace_pooling(model: Any, fraction: float) -> None:
    """Replaces the average over the feature map at the end of a timm network.

    Args:
        model: of timm.
        fraction: of each side that is averaged; 1 changes nothing.

    Raises:
        ConfigError: a fraction that is not above 0, up to 1.
        ModelError: the network ends otherwise.
    """
    from timm.layers import SelectAdaptivePool2d

    if not 0 < fraction <= 1:  # NaN too
        raise ConfigError(f"pool_center is {fraction}; it must be above 0, and at most 1")
    if fraction == 1:
        return
    parts: tuple[Any, ...] = (model, getattr(model, "head", None))
    for part in parts:
        pool = getattr(part, "global_pool", None)
        if isinstance(pool, SelectAdaptivePool2d) and pool.pool_type == "avg":
            part.global_pool = CenterPool(fraction, isinstance(pool.flatten, nn.Flatten))
            return
    raise ModelError(
        "pool_center is not supported by this network, which does not end in timm's average over a feature map; leave "
        "it out"
    )
