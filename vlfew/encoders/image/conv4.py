"""Conv4, the small network of the few-shot literature (Vinyals et al. 2016, Snell et al. 2017)."""

from __future__ import annotations

from math import gcd
from typing import Any, Literal

from torch import Tensor, nn

from vlfew.core.checks import check_dropout
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.encoders.activations import Activation, activate_and_pool
from vlfew.encoders.image.backbone import Backbone, check_size
from vlfew.encoders.image.cbam import Cbam, check_places
from vlfew.encoders.initialization import Init, initialize


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(width)
    return nn.GroupNorm(gcd(8, width), width) if kind == "group" else nn.Identity()


class Conv4(Backbone):
    """Blocks of convolution 3x3, norm, activation, max-pool 2.

    The defaults are the standard network: four blocks of 64, flattened, 1,600-d at 84 pixels. Two or
    three `widths` make the plain 2-CNN and 3-CNN.

    Args:
        in_channels: C of the images.
        image_size: their side in pixels, at least 2 to the number of blocks (16).
        width: of all four blocks.
        widths: of each block instead, any number of them.
        head: `flatten` keeps positions apart, `average` pools them (any image size, `widths[-1]`-d).
        norm: `group` and `none` make an image's features independent of its batch.
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
        blocks = [width] * 4 if widths is None else list(widths)
        if not blocks or min(blocks) < 1:
            raise ModelError(f"conv4 needs at least one block, each of width 1 or more, got widths {blocks}")
        check_size("conv4", image_size, 2 ** len(blocks))
        check_dropout("conv4's dropout", dropout)
        attended = check_places(cbam, len(blocks), "conv4's blocks")
        options: dict[str, Any] = {
            "widths": blocks,
            "head": head,
            "norm": norm,
            "activation": activation,
            "dropout": dropout,
            "init": init,
            "cbam": attended,
        }
        self.rebuild = ("conv4", options)
        layers = []
        for number, (before, after) in enumerate(zip([in_channels, *blocks], blocks, strict=False), 1):
            convolution = nn.Conv2d(before, after, 3, padding=1)
            block = nn.Sequential(convolution, _norm(norm, after), *activate_and_pool(activation))
            if number in attended:
                block.append(Cbam(after))
            layers.append(block)
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1) if head == "average" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        side = 1 if head == "average" else image_size // 2 ** len(blocks)
        self.dim = blocks[-1] * side * side
        initialize(self, init)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and `map [B, widths[-1], H', W']`.

        H' is H / 2^n, rounded down, of n blocks: H / 16 of four.
        """
        maps = self.blocks(images)
        return Features(self.dropout(self.pool(maps).flatten(1)), map=maps)
