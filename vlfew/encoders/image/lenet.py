"""A small twin after LeNet-5, for digits and faces of a few pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlfew.core.checks import check_dropout
from vlfew.core.features import Features
from vlfew.encoders.activations import Activation, activate_and_pool, make_activation
from vlfew.encoders.image.backbone import Backbone, check_size
from vlfew.encoders.initialization import Init, initialize

SIDE = 4
"""Of the maps that enter the dense layers."""


class LeNet(Backbone):
    """Two convolutions 5x5, each with max-pooling by 2, and two dense layers (LeCun et al. 1998).

    Widths 8, 16, 128 and 32 are chosen for the size of a published twin of 40,538 parameters whose
    layers are not told, and many designs have about that: this one has 40,448 on gray images, and
    40,481 with the weighted L1 layer of 32 + 1 that compares two twins (a scorer here). At 28 x 28
    the maps are 4 x 4 after the second pooling; those of other images are averaged (or, from fewer
    than 28 pixels, repeated) to that, so there are as many parameters for all.

    Args:
        in_channels: C of the images.
        image_size: their side in pixels, 16 or more.
        activation: of the convolutions and the first dense layer.
        last_activation: of the second dense layer, which gives the embedding.
        dropout: between the convolutions and the dense layers, in `[0, 1)`.
        init: see `initialize`.
    """

    dim = 32

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        activation: Activation = "relu",
        last_activation: Activation = "none",
        dropout: float = 0.0,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        check_size("lenet", image_size, 16)
        check_dropout("lenet's dropout", dropout)
        options: dict[str, Any] = {
            "activation": activation,
            "last_activation": last_activation,
            "dropout": dropout,
            "init": init,
        }
        self.rebuild = ("lenet", options)
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, 8, 5),
            *activate_and_pool(activation),
            nn.Conv2d(8, 16, 5),
            *activate_and_pool(activation),
            nn.AdaptiveAvgPool2d(SIDE),
        )
        self.dense = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(16 * SIDE * SIDE, 128),
            make_activation(activation),
            nn.Linear(128, self.dim),
            make_activation(last_activation),
        )
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, 32]` and `map [B, 16, 4, 4]`."""
        maps = self.convolutions(images)
        return Features(self.dense(maps.flatten(1)), map=maps)
