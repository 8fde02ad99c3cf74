"""Augmentation of a batch on its device: one affine resampling and a few pointwise operations.

The random parameters of an image depend on the seed, the step and its position in the *global* batch, so that one
process or eight produce the same images.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.core.config import AugmentConfig
from vlfew.core.random import generator_at

_COLUMNS = 13
_PARTS = 7
"""Parts of the affine map: rotation, shear, scale and translation along both axes, and the second shear."""
_FIELD = 5
"""Grid points per side at which an elastic field is drawn; smooth in between (Simard et al. 2003)."""


class BatchAugment:
    """Random affine maps, elastic fields, flips, brightness, contrast and erasing for uint8 batches.

    Outside the image its border is replicated, so no background color is needed.
    """

    def __init__(self, settings: AugmentConfig, seed: int) -> None:
        self.settings, self.seed = settings, seed
        s = settings
        self._moves = any((s.rotate, s.shear, s.shear_y, s.scale, s.translate, s.elastic, s.hflip))

    @property
    def changes_images(self) -> bool:
        """Whether any change is configured."""
        s = self.settings
        return bool(self._moves or s.contrast or s.brightness or s.random_erasing)

    @property
    def key(self) -> tuple[str, int]:
        """What decides the changes of an image, besides its place."""
        return self.settings.model_dump_json(), self.seed

    def __call__(self, images: Tensor, step: int, total: int, start: int) -> Tensor:
        """Augment positions `start .. start+B` of the `total` images of the batch of `step`.

        Args:
            images: uint8 `[B, C, H, W]`.
            step: number of the batch.
            total: number of images in the global batch.
            start: position of the first image in the global batch.

        Returns:
            float32 `[B, C, H, W]` in 0..255.
        """
        s = self.settings

        def draw(key: str, *shape: int) -> Tensor:
            """Uniform numbers `[B, *shape]` in 0..1, on the device of the images."""
            numbers = generator_at(self.seed, key, step).random((total, *shape), dtype=np.float32)
            own = torch.from_numpy(numbers[start : start + len(images)])
            # From pinned memory, so that the host does not wait for the copy.
            return own.pin_memory().to(images.device, non_blocking=True) if images.is_cuda else own

        u = draw("augment", _COLUMNS)
        x = images.float()
        if self._moves:
            grid = self._affine(x, u, draw("affine parts", _PARTS + 1))
            if s.elastic:
                grid = grid + self._elastic(x, draw("elastic", 2, _FIELD, _FIELD))
            x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        view = (-1, 1, 1, 1)
        if s.contrast:
            mean = x.mean(dim=(1, 2, 3), keepdim=True)
            x = mean + (x - mean) * (1 + s.contrast * (2 * u[:, 7] - 1)).view(view)
        if s.brightness:
            x = x + 255 * s.brightness * (2 * u[:, 8] - 1).view(view)
        if s.contrast or s.brightness:
            x = x.clamp(0, 255)
        if s.random_erasing:
            x = self._erase(x, u)
        return x

    def _elastic(self, x: Tensor, field: Tensor) -> Tensor:
        """Displacements `[B, H, W, 2]` of a smooth field, drawn at `[B, 2, F, F]` in 0..1."""
        shift = 2 * self.settings.elastic * (2 * field - 1)
        smooth = F.interpolate(shift, size=x.shape[2:], mode="bicubic", align_corners=True)
        return smooth.permute(0, 2, 3, 1)

    def _affine(self, x: Tensor, u: Tensor, parts: Tensor) -> Tensor:
        """The sampling grid `[B, H, W, 2]` of a random affine map.

        Args:
            x: images `[B, C, H, W]`.
            u: random numbers `[B, columns]` in 0..1.
            parts: random numbers `[B, 8]` in 0..1: which parts are applied, and the shear along columns.
        """
        s = self.settings
        drawn = 2 * torch.cat([u[:, :6], parts[:, _PARTS:]], dim=1) - 1
        signed = drawn * (parts[:, :_PARTS] < s.apply_prob)
        angle, shear = signed[:, 0] * math.radians(s.rotate), (signed[:, 1] * math.radians(s.shear)).tan()
        shear_y = (signed[:, 6] * math.radians(s.shear_y)).tan()
        wide, high = 1 + s.scale * signed[:, 2], 1 + s.scale * signed[:, 3]
        mirror = torch.where(u[:, 6] < s.hflip, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        # Rows of the 2x3 matrices from output to input positions (unit: half an image).
        theta = torch.stack(
            [
                (cos - sin * shear_y) * wide * mirror,
                (cos * shear - sin) * high,
                2 * s.translate * signed[:, 4],
                (sin + cos * shear_y) * wide * mirror,
                (sin * shear + cos) * high,
                2 * s.translate * signed[:, 5],
            ],
            dim=1,
        ).view(-1, 2, 3)
        return F.affine_grid(theta, list(x.shape), align_corners=False)

    def _erase(self, x: Tensor, u: Tensor) -> Tensor:
        """Set a box of 2% to 25% of the area to the mean of the image."""
        _, _, high, wide = x.shape
        side = (0.02 + 0.23 * u[:, 10]).sqrt()
        top, left = u[:, 11] * (1 - side), u[:, 12] * (1 - side)
        rows = torch.arange(high, device=x.device).add(0.5).div(high)
        columns = torch.arange(wide, device=x.device).add(0.5).div(wide)
        inside_rows = (rows > top[:, None]) & (rows < (top + side)[:, None])
        inside_columns = (columns > left[:, None]) & (columns < (left + side)[:, None])
        box = (
            inside_rows[:, :, None]
            & inside_columns[:, None, :]
            & (u[:, 9] < self.settings.random_erasing)[:, None, None]
        )
        return torch.where(box[:, None], x.mean(dim=(2, 3), keepdim=True), x)
