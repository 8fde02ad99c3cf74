"""The interface of fixed transforms in front of a backbone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class Preprocessing(nn.Module):
    """A fixed transform of images. Built by `PREPROCESSING.get(name)(in_channels, image_size, **options)`.

    It follows the normalization of pixels and is part of the model, so evaluation and use apply it too. It has
    buffers and no parameters, and is fitted once, before training.

    Attributes:
        out_channels: C' of the backbone's input.
        out_size: its height and width in pixels.
        max_fit_images: largest number of images that `fit` needs; 0 where there is nothing to fit.
        saved_options: options that build it again without the packages it was made with; None where these are the
            options it was built with.
    """

    out_channels: int
    out_size: int
    max_fit_images: int = 0
    saved_options: dict[str, Any] | None = None

    def fit(self, images: Iterable[Tensor]) -> None:
        """Fits the transform to training images; does nothing where `max_fit_images` is 0.

        Args:
            images: batches `[b, C, H, W]` of normalized images of the training split.

        Raises:
            ModelError: too few images.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalized images `[B, C, H, W]` to `[B, C', H', W']`, in the same precision."""
