"""Discrete wavelet transform of images (Mallat 1989), as PyWavelets computes it."""

from __future__ import annotations

from math import nan
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.encoders.hub import closest_name
from vlfew.encoders.preprocessing.base import Preprocessing

Mode = Literal["symmetric", "periodic", "periodization"]


class Wavelet(Preprocessing):
    """Approximation and detail bands of an image as its channels: `[B, C, H, W]` to `[B, 4C, H/2, W/2]`.

    Channels are ordered by band: the approximation of all C channels, then their horizontal, vertical and diagonal
    details. Each further level decomposes the approximation in the same way; its coarser bands come first and are
    repeated to the size of the finest: `(3 * level + 1) C` channels.

    A side of N pixels becomes `(N + taps - 1) // 2` at each level, the image being extended beyond its border:
    mirrored, or periodically. `periodization` gives `(N + 1) // 2` for any filter; an odd side first gets its last
    pixel twice.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels.
        taps: of a saved model: the length of the filters, whose values are stored with its weights, so that
            PyWavelets is not needed.
        wavelet: any discrete wavelet of PyWavelets (`haar`, `db2`, `bior2.2`).
        level: number of decompositions; at most as many as the filter, less one pixel, fits into a side.
        keep: `all` bands, or the last `approximation` alone, of C channels.
        mode: how images are extended beyond their border, in PyWavelets' terms.

    Raises:
        ModelError: unknown wavelet, PyWavelets missing, or too many levels for the image size.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        # Not keyword-only, so that it is no option of the configuration.
        taps: int | None = None,
        *,
        wavelet: str = "haar",
        level: int = 1,
        keep: Literal["all", "approximation"] = "all",
        mode: Mode = "symmetric",
    ) -> None:
        super().__init__()
        if taps is not None and (taps < 2 or taps % 2):
            raise ModelError(f"wavelet's taps is {taps}; the length of a saved filter is even")
        # Low-pass and high-pass [2, taps]. NaN until they are loaded, so that missing ones are noticed.
        self.filters = nn.Buffer(_filters(wavelet) if taps is None else torch.full((2, taps), nan))
        taps = self.filters.shape[1]
        _check_level(wavelet, level, image_size, taps)
        self.level, self.keep, self.mode = level, keep, mode
        sides = [image_size]
        for _ in range(level):
            sides.append(_band_size(sides[-1], taps, mode))
        self.out_channels = in_channels * (3 * level + 1 if keep == "all" else 1)
        self.out_size = sides[1] if keep == "all" else sides[-1]
        options: dict[str, Any] = {"wavelet": wavelet, "level": level, "keep": keep, "mode": mode}
        self.saved_options = options | {"taps": taps}

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C', H', W']`; see the class."""
        approximation, bands = images, list[Tensor]()
        for _ in range(self.level):
            approximation, *details = self._decompose(approximation)
            bands = [*details, *bands]
        if self.keep == "approximation":
            return approximation
        bands = [approximation, *bands]
        size = bands[-1].shape[2:]
        return torch.cat([b if b.shape[2:] == size else F.interpolate(b, size) for b in bands], dim=1)

    def _decompose(self, images: Tensor) -> Tensor:
        """One level: `[B, C, H, W]` to `[4, B, C, H', W']`, bands in PyWavelets' order."""
        channels, height, width = images.shape[1:]
        extended = images[:, :, self._positions(height)[:, None], self._positions(width)]
        # Filters are convolved, while torch correlates.
        kernel = self.filters.flip(1)
        rows = repeat(kernel, "band taps -> (c band) 1 1 taps", c=channels)
        columns = repeat(kernel, "band taps -> (c band) 1 taps 1", c=2 * channels)
        split = F.conv2d(extended, rows, stride=(1, 2), groups=channels)
        split = F.conv2d(split, columns, stride=(2, 1), groups=2 * channels)
        return rearrange(split, "b (c band) h w -> band b c h w", band=4)

    def _positions(self, length: int) -> Tensor:
        """Pixel indices of a side that is extended beyond both ends by the reach of the filters."""
        taps, count = self.filters.shape[1], _band_size(length, self.filters.shape[1], self.mode)
        start = 1 - taps // 2 if self.mode == "periodization" else 2 - taps
        at = torch.arange(start, start + 2 * (count - 1) + taps, device=self.filters.device)
        if self.mode == "periodic":
            return at.remainder(length)
        if self.mode == "periodization":
            return at.remainder(2 * count).clamp(max=length - 1)
        at = at.remainder(2 * length)
        return torch.minimum(at, 2 * length - 1 - at)


def _band_size(length: int, taps: int, mode: Mode) -> int:
    """Number of coefficients of a side of that many pixels."""
    return (length + 1) // 2 if mode == "periodization" else (length + taps - 1) // 2


def _filters(name: str) -> Tensor:
    """Decomposition filters `[2, taps]` of a wavelet: low-pass, high-pass."""
    try:
        import pywt
    except ImportError:
        raise ModelError(
            "the wavelet preprocessing needs PyWavelets, which is not installed (pip install 'vlfew[wavelets]')"
        ) from None
    try:
        wavelet = pywt.Wavelet(name)
    except (ValueError, TypeError):  # continuous wavelets, too
        known, listing = pywt.wavelist(kind="discrete"), "pywt.wavelist(kind='discrete')"
        raise ModelError(f"unknown wavelet {name!r}{closest_name(name, known, listing)}") from None
    return torch.tensor([wavelet.dec_lo, wavelet.dec_hi])


def _check_level(name: str, level: int, image_size: int, taps: int) -> None:
    """Checks that the bands of the last level are not all border."""
    most = (image_size // (taps - 1)).bit_length() - 1
    if most < 1:
        raise ModelError(
            f"the filters of wavelet {name!r}, {taps} pixels long, are too long for images of {image_size} x "
            f"{image_size} pixels; use a shorter wavelet or raise the image size"
        )
    if not 1 <= level <= most:
        raise ModelError(
            f"wavelet's level is {level}; with {name!r} and images of {image_size} x {image_size} pixels it "
            f"must be from 1 to {most}"
        )
