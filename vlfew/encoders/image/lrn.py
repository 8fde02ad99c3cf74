"""A twin network with local response normalization, like AlexNet's first layer."""

from __future__ import annotations

from torch import Tensor, nn

from vlfew.core.checks import check_at_least, check_dropout
from vlfew.core.features import Features
from vlfew.encoders.image.backbone import Backbone, check_image_size
from vlfew.encoders.initialization import Init, initialize


class LocalResponse(Backbone):
    """One wide convolution with local response normalization, then three dense layers.

    5x5 convolution of width 128 with stride 3, ReLU, local response normalization over 5 channels (Krizhevsky et al.
    2012, section 3.3), 4x4 max-pooling with stride 2, dropout of whole channels; dense layers of 512, 128 and `dim`.
    The layers are those of a published twin for MNIST, in which 2,048 features enter the dense layers: 28 x 28 pixels
    give this number, with 1,118,338 parameters. ReLU between the dense layers and dropout after the first are our
    choice.

    The normalization has the parameters of the published PyTorch code: 5 channels, alpha 1e-3, beta 0.75, k 2. PyTorch
    divides alpha by the number of channels, so it is 2e-4 in Krizhevsky's formula, where the paper has 1e-4.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels, 10 or more.
        dim: width of the embedding.
        dropout: of whole channels after the pooling, and of units after the first dense layer, in `[0, 1)`.
        init: see `initialize`.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        dim: int = 2,
        dropout: float = 0.5,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        check_image_size("lrn", image_size, 10)
        check_dropout("lrn's dropout", dropout)
        check_at_least("lrn's dim", dim)
        self.dim = dim
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, 128, 5, stride=3, padding=2),
            nn.ReLU(),
            nn.LocalResponseNorm(5, alpha=1e-3, beta=0.75, k=2.0),
            nn.MaxPool2d(4, stride=2),
        )
        side = ((image_size - 1) // 3 + 1 - 4) // 2 + 1
        self.dropout = nn.Dropout2d(dropout)
        self.dense = nn.Sequential(
            nn.Linear(128 * side * side, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Linear(128, dim),
        )
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and `map [B, 128, H', W']`."""
        maps = self.convolutions(images)
        return Features(self.dense(self.dropout(maps).flatten(1)), map=maps)
