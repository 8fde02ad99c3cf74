"""Conv4, the small network of the few-shot literature (Vinyals et al. 2016, Snell et al. 2017)."""

from __future__ import annotations

from math import gcd
from typing import Literal

from torch import Tensor, nn

from vlfew.core.checks import check_dropout
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.encoders.activations import Activation, activate_and_pool
from vlfew.encoders.image.backbone import Backbone, check_image_size
from vlfew.encoders.image.cbam import Cbam, check_cbam_positions
from vlfew.encoders.initialization import Init, initialize


class Conv4(Backbone):
    """Blocks of 3x3 convolution, norm, activation and 2x2 max-pooling.

    The defaults are the standard network: four blocks of width 64, flattened, 1,600 dimensions at 84 pixels. Two or
    three `widths` make the plain 2-CNN and 3-CNN.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels, at least 2 to the power of the number of blocks (16).
        width: of all four blocks.
        widths: of each block instead, for any number of blocks.
        head: `flatten` keeps positions apart; `average` averages over them, to `widths[-1]` dimensions.
        norm: `group` and `none` make the features of an image independent of its batch.
        activation: of each block.
        dropout: on the embedding, in `[0, 1)`.
        init: see `initialize`.
        cbam: numbers of the blocks that end in CBAM attention; `[1]` is after the first pooling.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        width: int = 64,
        widths: list[int] | None = None,
        head: Literal["flatten", "average"] = "flatten",
        norm: Literal["batch", "group", "none"] = "batch",
        activation: Activation = "relu",
        dropout: float = 0.0,
        init: Init = "torch",
        cbam: list[int] = [],  # noqa: B006
    ) -> None:
        super().__init__()
        widths = [width] * 4 if widths is None else widths
        if not widths or min(widths) < 1:
            raise ModelError(f"conv4 needs at least one block, each of width 1 or more, got widths {widths}")
        check_image_size("conv4", image_size, 2 ** len(widths))
        check_dropout("conv4's dropout", dropout)
        attended = check_cbam_positions(cbam, len(widths), "conv4's blocks")
        blocks = []
        for number, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False), 1):
            convolution = nn.Conv2d(before, after, 3, padding=1)
            block = nn.Sequential(convolution, _norm(norm, after), *activate_and_pool(activation))
            if number in attended:
                block.append(Cbam(after))
            blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1) if head == "average" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        side = 1 if head == "average" else image_size // 2 ** len(widths)
        self.dim = widths[-1] * side * side
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and `map [B, widths[-1], H', W']`.

        H' is `H // 2^n` for n blocks: H / 16 for four.
        """
        maps = self.blocks(images)
        return Features(self.dropout(self.pool(maps).flatten(1)), map=maps)


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(width)
    return nn.GroupNorm(gcd(8, width), width) if kind == "group" else nn.Identity()
