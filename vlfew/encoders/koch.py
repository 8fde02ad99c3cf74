"""The convolutional Siamese network of Koch, Zemel and Salakhutdinov, 2015."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlfew.encoders.backbone import Backbone, require_size
from vlfew.encoders.cbam import Cbam, require_places
from vlfew.features import Features

KERNELS = ((10, 64), (7, 128), (4, 128), (4, 256))
"""Kernel size and width of the four convolutions; max-pooling by 2 after all but the last."""


class Koch(Backbone):
    """One twin of "Siamese Neural Networks for One-shot Image Recognition" (2015, figure 4).

    At 105 x 105 grey: 38,947,648 parameters, and 38,951,745 with the weighted L1 layer of 4,096 + 1
    that compares two twins (a scorer here).

    Args:
        in_channels: C of the pictures.
        image_size: their side in pixels, 65 or more.
        batch_norm: BatchNorm after each convolution; the paper has none.
        koch_init: the paper's initialisation (convolutions N(0, 0.01), dense N(0, 0.2), biases
            N(0.5, 0.01)) instead of torch's. At 0.2 the sigmoids start out saturated.
        cbam: numbers of the poolings, 1 to 3, that CBAM attention comes after.
    """

    dim = 4096

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        batch_norm: bool = False,
        koch_init: bool = True,
        cbam: list[int] = [],  # noqa: B006
    ) -> None:
        super().__init__()
        require_size("koch", image_size, 65)
        attended = require_places(cbam, len(KERNELS) - 1, "koch's poolings")
        options: dict[str, Any] = {"batch_norm": batch_norm, "koch_init": koch_init, "cbam": attended}
        self.rebuild = ("koch", options)
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
            layers.append(nn.ReLU())
            width, side = out, side - kernel + 1
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Linear(width * side * side, self.dim)
        if koch_init:
            self._koch_init()

    def _koch_init(self) -> None:
        # The network's own layers, not those inside CBAM.
        for module in (*self.convolutions, self.dense):
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01 if isinstance(module, nn.Conv2d) else 0.2)
                assert module.bias is not None
                nn.init.normal_(module.bias, 0.5, 0.01)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, 4096]` in 0..1 and `map [B, 256, H', W']`."""
        maps = self.convolutions(images)
        return Features(torch.sigmoid(self.dense(maps.flatten(1))), map=maps)
