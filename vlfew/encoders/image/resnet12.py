"""ResNet-12 of the few-shot literature, with DropBlock."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor, nn

from vlfew.core.checks import check_at_least, check_dropout
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.encoders.image.backbone import Backbone, check_image_size
from vlfew.encoders.image.cbam import Cbam, check_cbam_positions


class DropBlock(nn.Module):
    """Drops square regions of feature maps in training (Ghiasi et al. 2018, algorithm 1).

    Args:
        rate: expected share of dropped activations.
        size: height and width of a region; smaller maps are dropped completely.
    """

    def __init__(self, rate: float, size: int) -> None:
        super().__init__()
        self.rate, self.size = rate, size

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same shape, scaled to keep the expected sum."""
        if not self.training or self.rate == 0:
            return maps
        height, width = maps.shape[-2:]
        size = min(self.size, height, width)
        positions = (height - size + 1) * (width - size + 1)
        gamma = self.rate * height * width / (size * size * positions)
        corner = torch.rand(*maps.shape[:2], height - size + 1, width - size + 1, device=maps.device) < gamma
        dropped = F.max_pool2d(F.pad(corner.to(maps.dtype), [size - 1] * 4), size, stride=1)
        mask = 1 - dropped
        return maps * mask * (mask.numel() / mask.sum().clamp(min=1))


class Block(nn.Module):
    """Three 3x3 convolutions with a 1x1 shortcut, then 2x2 max-pooling and dropout.

    Args:
        before, after: channels.
        drop: the dropout module.
        cbam: CBAM attention before the shortcut is added (Woo et al. 2018, figure 3).
        ceil: pooling includes the last row and column of an odd side.
    """

    def __init__(self, before: int, after: int, drop: nn.Module, cbam: bool, ceil: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            convolution = nn.Conv2d(after if i else before, after, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after)]
            if i < 2:
                layers.append(nn.LeakyReLU(0.1))
        if cbam:
            layers.append(Cbam(after))
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        self.drop, self.ceil = drop, ceil

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, before, H, W]` to `[B, after, H/2, W/2]`, rounded down, or up with `ceil`."""
        maps = F.leaky_relu(self.body(maps) + self.shortcut(maps), 0.1)
        dropped: Tensor = self.drop(F.max_pool2d(maps, 2, ceil_mode=self.ceil))
        return dropped


class ResNet12(Backbone):
    """Four residual blocks and global average pooling (Lee et al. 2019, MetaOptNet; Tian et al. 2020).

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels, 16 or more.
        widths: of the four blocks; `[64, 128, 256, 512]` are those of CAN (Hou et al. 2019).
        drop_rate: of dropout after the first two blocks and DropBlock after the last two, in `[0, 1)`; constant,
            where MetaOptNet (0.1) raises that of DropBlock over the first 20,000 batches.
        dropblock_size: height and width of DropBlock's regions.
        cbam: numbers of the blocks, 1 to 4, with CBAM attention before the shortcut is added.
        ceil: pooling includes the last row and column of an odd side; maps at 84 pixels are then 6 x 6, like CAN's,
            else 5 x 5.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        widths: list[int] = [64, 160, 320, 640],  # noqa: B006
        drop_rate: float = 0.0,
        dropblock_size: int = 5,
        cbam: list[int] = [],  # noqa: B006
        ceil: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or min(widths) < 1:
            raise ModelError(f"resnet12 needs four widths of 1 or more, got {widths}")
        check_image_size("resnet12", image_size, 16)
        check_dropout("resnet12's drop_rate", drop_rate)
        check_at_least("resnet12's dropblock_size", dropblock_size)
        attended = check_cbam_positions(cbam, 4, "resnet12's blocks")
        blocks = []
        for i, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            drop = nn.Dropout(drop_rate) if i < 2 else DropBlock(drop_rate, dropblock_size)
            blocks.append(Block(before, after, drop, i + 1 in attended, ceil))
        self.blocks = nn.Sequential(*blocks)
        self.dim = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.1, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, widths[3]]` and `map [B, widths[3], H/16, W/16]`.

        Rounded down, or up with `ceil`.
        """
        maps = self.blocks(images)
        return Features(reduce(maps, "b c h w -> b c", "mean"), map=maps)
