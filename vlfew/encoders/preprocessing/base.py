"""What images may go through before the backbone sees them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class Preprocessing(nn.Module):
    """A fixed map of images. Built by `PREPROCESSING.get(name)(in_channels, image_size, **options)`.

    It stands after the normalization of pixels, within the model: evaluation and use apply it too. It
    has buffers and no parameters. What it takes from images it takes once, before training.

    Attributes:
        out_channels: C' of what the backbone sees.
        out_size: its side in pixels.
        sample: at most so many images `fit` asks for; 0 where there is nothing to fit.
        rebuild: name and options that give the same buffers again, but for their values; those then
            come from a state dict.
    """

    out_channels: int
    out_size: int
    sample: int = 0
    rebuild: tuple[str, dict[str, Any]]

    def fit(self, images: Iterable[Tensor]) -> None:
        """Takes from training images what there is to take; nothing where `sample` is 0.

        Args:
            images: batches `[b, C, H, W]` of normalized images of the training split, and of no other.

        Raises:
            ModelError: too few images for what was asked.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalized images `[B, C, H, W]` to `[B, C', H', W']`, in their own precision."""
