"""What an image backbone is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor


class Backbone(nn.Module):
    """An image encoder. Built by `BACKBONES.get(name)(in_channels, image_size, **options)`.

    Attributes:
        dim: width D of the embedding.
        rebuild: name and options that give the same architecture again, with no network and none of
            the original files; the weights then come from a state dict.
        pixel_mean, pixel_std: one number a channel, for pixels in 0..1, when pretrained weights
            expect them; else None, and they are taken from the data.
        pretrained: whether the weights come from outside data.
    """

    dim: int
    rebuild: tuple[str, dict[str, Any]]
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    pretrained: bool = False

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Normalized images `[B, C, H, W]` to `embedding [B, D]` and, where there is one, `map`."""


@dataclass(frozen=True)
class Published:
    """A published model by one name, as far as it is known before its towers are built.

    Attributes:
        preprocessor: how images were read for its weights.
        text: the name of its text tower, where it has one that shares the space of images.
    """

    preprocessor: ImagePreprocessor
    text: str | None = None


def check_size(name: str, image_size: int, least: int) -> None:
    """Refuses images of which pooling would leave nothing.

    Raises:
        ModelError: `image_size` (pixels) is below `least`.
    """
    if image_size < least:
        raise ModelError(
            f"{name} needs images of at least {least} x {least} pixels, got {image_size} x {image_size};"
            " raise the image size"
        )


def channel_stats(values: Sequence[float], in_channels: int) -> tuple[float, ...]:
    """Statistics of RGB weights for `in_channels` channels: their average unless there are three."""
    if in_channels == len(values):
        return tuple(values)
    return (sum(values) / len(values),) * in_channels
