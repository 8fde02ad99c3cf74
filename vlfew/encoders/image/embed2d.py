"""A small network with a two-dimensional embedding, in which a loss can be plotted."""

from __future__ import annotations

from torch import Tensor, nn

from vlfew.core.checks import check_at_least
from vlfew.core.features import Features
from vlfew.encoders.activations import make_activation
from vlfew.encoders.image.backbone import Backbone
from vlfew.encoders.initialization import Init, initialize

LAYERS = ((32, 1), (32, 2), (64, 1), (64, 2))
"""Width and stride of the four convolutions."""


class Embed2D(Backbone):
    """Four 3x3 convolutions with BatchNorm and LeakyReLU 0.1, two of them with stride 2, and a dense layer.

    For 28 x 28 gray images the dense layer is 3,136 -> 2, and there are 71,650 parameters. With `embedding_dim: null`
    and `similarity: euclidean` the two dimensions are the joint space itself.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels.
        dim: width of the embedding.
        init: see `initialize`.
    """

    def __init__(self, in_channels: int, image_size: int, *, dim: int = 2, init: Init = "torch") -> None:
        super().__init__()
        check_at_least("embed2d's dim", dim)
        self.dim = dim
        layers: list[nn.Module] = []
        width, side = in_channels, image_size
        for out, stride in LAYERS:
            convolution = nn.Conv2d(width, out, 3, stride, padding=1)
            layers += [convolution, nn.BatchNorm2d(out), make_activation("leaky_relu")]
            width, side = out, -(-side // stride)
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Linear(width * side * side, dim)
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and `map [B, 64, H/4, W/4]`, rounded up."""
        maps = self.convolutions(images)
        return Features(self.dense(maps.flatten(1)), map=maps)
