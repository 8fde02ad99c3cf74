"""Discrete wavelet transform of images (Mallat 1989), as PyWavelets computes it."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.core.errors import ModelError
from vlfew.encoders.hub import nearest
from vlfew.encoders.preprocessing.base import Preprocessing

Mode = Literal["symmetric", "periodic", "periodization"]


class Wavelet(Preprocessing):
    """Approximation and details of an image as its channels: `[B, C, H, W]` to `[B, 4C, H/2, W/2]`.

    Channels come band by band: the approximation of all C, then their horizontal, vertical and
    diagonal details. Each further level takes the approximation apart in the same way. The coarser
    bands stand before the finer ones and are repeated to the size of the finest: `(3 * level + 1) C`
    channels.

    A side of N becomes `(N + taps - 1) // 2` at each level, the image being continued beyond its
    border: mirrored, or as if it began anew. `periodization` gives `(N + 1) // 2`, whatever the
    filter; an odd side first gets its last pixel twice.

    Args:
        in_channels: C of the images.
        image_size: their side in pixels.
        taps: of a saved model: length of the filters, whose values are among its weights. PyWavelets
            is not asked then.
        wavelet: any discrete one of PyWavelets (`haar`, `db2`, `bior2.2`).
        level: how often the approximation is taken apart; at most as often as the filter, less one
            pixel, fits into what is left of a side.
        keep: `all`, or the last `approximation` alone, of C channels.
        mode: how images go on beyond their border, in PyWavelets' terms.

    Raises:
        ModelError: no such wavelet, PyWavelets is missing, or too many levels for the images.
    """

    filters: Tensor

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        # Not keyword-only: no option, and so not for a configuration to give.
        taps: int | None = None,
        *,
        wavelet: str = "haar",
        level: int = 1,
        keep: Literal["all", "approximation"] = "all",
        mode: Mode = "symmetric",
    ) -> None:
        super().__init__()
        if taps is not None and (taps < 2 or taps % 2):
            raise ModelError(f"wavelet's taps is {taps}; a saved filter has an even number of them")
        # Low-pass and high-pass [2, taps]. NaN until they are loaded: a missing one shall not go unseen.
        filters = _filters(wavelet) if taps is None else torch.full((2, taps), float("nan"))
        self.register_buffer("filters", filters)
        taps = filters.shape[1]
        _check_level(wavelet, level, image_size, taps)
        self.level, self.keep, self.mode = level, keep, mode
        sides = [image_size]
        for _ in range(level):
            sides.append(_count(sides[-1], taps, mode))
        self.out_channels = in_channels * (3 * level + 1 if keep == "all" else 1)
        self.out_size = sides[1] if keep == "all" else sides[-1]
        options: dict[str, Any] = {
            "wavelet": wavelet,
            "level": level,
            "keep": keep,
            "mode": mode,
            "taps": taps,
        }
        self.rebuild = ("wavelet", options)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C', H', W']`; see the class for both."""
        approximation, bands = images, list[Tensor]()
        for _ in range(self.level):
            split = self._split(approximation)
            approximation = split[:, 0]
            bands.insert(0, split[:, 1:].flatten(1, 2))
        if self.keep == "approximation":
            return approximation
        bands.insert(0, approximation)
        size = bands[-1].shape[2:]
        return torch.cat([b if b.shape[2:] == size else F.interpolate(b, size) for b in bands], dim=1)

    def _split(self, images: Tensor) -> Tensor:
        """One level: `[B, C, H, W]` to `[B, 4, C, H', W']`, bands in PyWavelets' order."""
        (b, c, h, w), taps = images.shape, self.filters.shape[1]
        continued = images[:, :, self._positions(h)[:, None], self._positions(w)]
        # Filters are convolved, and torch correlates.
        kernel = self.filters.flip(1)
        across = kernel.view(2, 1, 1, taps).repeat(c, 1, 1, 1)
        down = kernel.view(2, 1, taps, 1).repeat(2 * c, 1, 1, 1)
        split = F.conv2d(continued, across, stride=(1, 2), groups=c)
        split = F.conv2d(split, down, stride=(2, 1), groups=2 * c)
        return split.reshape(b, c, 4, *split.shape[2:]).transpose(1, 2)

    def _positions(self, length: int) -> Tensor:
        """Which pixel of a side stands where, the side continued beyond both ends as far as filters reach."""
        taps, count = self.filters.shape[1], _count(length, self.filters.shape[1], self.mode)
        start = 1 - taps // 2 if self.mode == "periodization" else 2 - taps
        at = torch.arange(start, start + 2 * (count - 1) + taps, device=self.filters.device)
        if self.mode == "periodic":
            return at.remainder(length)
        if self.mode == "periodization":
            return at.remainder(2 * count).clamp(max=length - 1)
        at = at.remainder(2 * length)
        return torch.minimum(at, 2 * length - 1 - at)


def _count(length: int, taps: int, mode: Mode) -> int:
    """Coefficients of a side of so many pixels."""
    return (length + 1) // 2 if mode == "periodization" else (length + taps - 1) // 2


def _filters(name: str) -> Tensor:
    """Decomposition filters `[2, taps]` of a wavelet: low-pass, high-pass."""
    try:
        import pywt
    except ImportError:
        raise ModelError(
            "the wavelet front end takes its filters from PyWavelets, which is not installed "
            "(pip install 'vlfew[wavelets]')"
        ) from None
    try:
        found = pywt.Wavelet(name)
    except (ValueError, TypeError):  # continuous ones, too; no name at all
        known, listing = pywt.wavelist(kind="discrete"), "pywt.wavelist(kind='discrete')"
        raise ModelError(f"unknown wavelet {name!r}{nearest(name, known, listing)}") from None
    return torch.tensor([found.dec_lo, found.dec_hi])


def _check_level(name: str, level: int, image_size: int, taps: int) -> None:
    """Refuses levels at which there would be no more than border."""
    most = (image_size // (taps - 1)).bit_length() - 1
    if most < 1:
        raise ModelError(
            f"the filters of wavelet {name!r}, {taps} pixels long, are too long for images of {image_size} x "
            f"{image_size} pixels; take a shorter wavelet or raise the image size"
        )
    if not 1 <= level <= most:
        raise ModelError(
            f"wavelet's level is {level}; with {name!r} and images of {image_size} x {image_size} pixels it "
            f"must be from 1 to {most}"
        )
