"""The convolutional Siamese network of Koch, Zemel and Salakhutdinov (2015)."""

from __future__ import annotations

from torch import Tensor, nn

from vlfew.core.checks import check_dropout
from vlfew.core.features import Features
from vlfew.encoders.activations import Activation, make_activation
from vlfew.encoders.image.backbone import Backbone, check_image_size
from vlfew.encoders.image.cbam import Cbam, check_cbam_positions
from vlfew.encoders.initialization import Init, initialize

KERNELS = ((10, 64), (7, 128), (4, 128), (4, 256))
"""Kernel size and width of the four convolutions; 2x2 max-pooling after all but the last."""


class Koch(Backbone):
    """One twin of "Siamese Neural Networks for One-shot Image Recognition" (2015, figure 4).

    With the weighted L1 similarity of two embeddings (4,096 + 1 parameters) it has 38,951,745 parameters for 105 x 105
    gray images, and 27,417,409 for 100 x 100.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels, 65 or more.
        activation: of the convolutions.
        last_activation: of the dense layer.
        batch_norm: BatchNorm after each convolution; the paper has none.
        dropout: before the dense layer, in `[0, 1)`; the paper has none.
        init: see `initialize`. With the paper's 0.2 for the dense layer its sigmoids start saturated.
        cbam: numbers of the poolings, 1 to 3, that are followed by CBAM attention.
    """

    dim = 4096

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        activation: Activation = "relu",
        last_activation: Activation = "sigmoid",
        batch_norm: bool = False,
        dropout: float = 0.0,
        init: Init = "koch",
        cbam: list[int] = [],  # noqa: B006
    ) -> None:
        super().__init__()
        check_image_size("koch", image_size, 65)
        check_dropout("koch's dropout", dropout)
        attended = check_cbam_positions(cbam, len(KERNELS) - 1, "koch's poolings")
        layers: list[nn.Module] = []
        width, side = in_channels, image_size
        for i, (kernel, out) in enumerate(KERNELS):
            if i:
                layers.append(nn.MaxPool2d(2))
                side //= 2
                if i in attended:
                    layers.append(Cbam(width))
            layers.append(nn.Conv2d(width, out, kernel))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(make_activation(activation))
            width, side = out, side - kernel + 1
        self.convolutions = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width * side * side, self.dim)
        self.last_activation = make_activation(last_activation)
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, 4096]` (in 0..1 after a sigmoid) and `map [B, 256, H', W']`."""
        maps = self.convolutions(images)
        return Features(self.last_activation(self.dense(self.dropout(maps.flatten(1)))), map=maps)
