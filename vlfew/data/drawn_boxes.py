"""Images with their boxes drawn on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COLORS = ("#e6194b", "#3c78d8", "#2a9d3a", "#f58231", "#911eb4", "#008b8b", "#b8860b", "#c71585")
"""Of the boxes, in turn: they differ on light and on dark images."""


def draw_boxes(
    image: Tensor, xyxy: Tensor, labels: Sequence[str] | None = None, zoom: int = 1, width: int = 2
) -> np.ndarray:
    """An image with boxes, each in a color of its own.

    Args:
        image: uint8 `[C, H, W]`.
        xyxy: `[N, 4]` as fractions of the image.
        labels: written at the upper left corner of each; in Pillow's own font, which has the characters of Western
            languages only.
        zoom: pixels of the drawing for each pixel of the image.
        width: of the lines, in pixels of the drawing.

    Returns:
        uint8 `[zoom * H, zoom * W, 3]`.
    """
    from torchvision.utils import draw_bounding_boxes

    _, h, w = image.shape
    large = image.expand(3, h, w).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    if len(xyxy):
        pixels = xyxy * torch.tensor([w, h] * 2) * zoom
        colors = [COLORS[n % len(COLORS)] for n in range(len(xyxy))]
        large = draw_bounding_boxes(
            large, pixels, None if labels is None else list(labels), colors, width=width
        )
    return large.permute(1, 2, 0).numpy()
