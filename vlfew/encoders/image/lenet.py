"""A small twin network after LeNet-5, for low-resolution digits and faces."""

from __future__ import annotations

from torch import Tensor, nn

from vlfew.core.checks import check_dropout
from vlfew.core.features import Features
from vlfew.encoders.activations import Activation, activate_and_pool, make_activation
from vlfew.encoders.image.backbone import Backbone, check_image_size
from vlfew.encoders.initialization import Init, initialize

MAP_SIZE = 4
"""Height and width of the maps that enter the dense layers."""


class LeNet(Backbone):
    """Two 5x5 convolutions, each with 2x2 max-pooling, and two dense layers (LeCun et al. 1998).

    Widths 8, 16, 128 and 32 approximate a published twin of 40,538 parameters whose layers are not given, and which
    many designs would fit: this one has 40,448 for gray images, and 40,481 with the weighted L1 similarity of 32 + 1.
    For 28 x 28 images the maps are 4 x 4 after the second pooling; other sizes are averaged (or, below 28 pixels,
    repeated) to that, so the number of parameters does not depend on the image size.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels, 16 or more.
        activation: of the convolutions and the first dense layer.
        last_activation: of the second dense layer, whose output is the embedding.
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
        check_image_size("lenet", image_size, 16)
        check_dropout("lenet's dropout", dropout)
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, 8, 5),
            *activate_and_pool(activation),
            nn.Conv2d(8, 16, 5),
            *activate_and_pool(activation),
            nn.AdaptiveAvgPool2d(MAP_SIZE),
        )
        self.dense = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(16 * MAP_SIZE * MAP_SIZE, 128),
            make_activation(activation),
            nn.Linear(128, self.dim),
            make_activation(last_activation),
        )
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, 32]` and `map [B, 16, 4, 4]`."""
        maps = self.convolutions(images)
        return Features(self.dense(maps.flatten(1)), map=maps)
