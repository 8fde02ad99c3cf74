"""The interface of image encoders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from einops import rearrange, repeat
from torch import Tensor, nn

from vlfew.core.config import ClassNeighborsConfig
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.library_errors import library_errors


@dataclass(frozen=True)
class PretrainedClassifier:
    """The classifier that a backbone was pretrained with, over K classes.

    Attributes:
        names: of each class, the most usual one first.
        layer: from the embedding `[B, D]` to logits `[B, K]`.
    """

    names: list[list[str]]
    layer: nn.Linear


class Backbone(nn.Module):
    """An image encoder. Built by `BACKBONES.get(name)(in_channels, image_size, **options)`.

    Attributes:
        dim: width D of the embedding.
        saved_options: options that build the same architecture again without network or original files, its weights
            then coming from a state dict; None where these are the options it was built with.
        pixel_mean, pixel_std: per channel, for pixels in 0..1, where pretrained weights expect them; None where they
            are computed from the training images.
        pretrained_on: what data the weights were trained on, by name (`vlfew.encoders.pretraining_data`); empty for
            random weights.
    """

    dim: int
    saved_options: dict[str, Any] | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    pretrained_on: str = ""

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Normalized images `[B, C, H, W]` to `embedding [B, D]` and, for networks with a grid, `map`."""

    def pretrained_classifier(self) -> PretrainedClassifier:
        """The classifier of the embedding that the weights were trained with, read from where they come from.

        It is no part of the backbone.

        Raises:
            ModelError: there is none, or the names of its classes are not known.
        """
        raise ModelError(f"{type(self).__name__} comes without a classifier over classes of known names")

    def use_pixel_statistics(self, mean: Sequence[float], std: Sequence[float], in_channels: int) -> None:
        """Sets the statistics that pretrained weights expect, given for RGB."""
        self.pixel_mean = channel_stats(mean, in_channels)
        self.pixel_std = channel_stats(std, in_channels)


@dataclass(frozen=True)
class PretrainedModel:
    """What is known about a published model before it is built.

    Attributes:
        preprocessor: how its images are read.
        text: registry name of its text encoder, where it has one in a joint space.
        class_neighbors: how texts are mapped into that space, where that is not the text encoder's own.
    """

    preprocessor: ImagePreprocessor
    text: str | None = None
    class_neighbors: ClassNeighborsConfig | None = None


def build_errors(name: str, in_channels: int, image_size: int) -> AbstractContextManager[None]:
    """Reports what another library raises while it builds a network for such images, as a ModelError."""
    return library_errors(f"{name} cannot be built for images of {in_channels} x {image_size} x {image_size}")


def check_image_size(name: str, image_size: int, least: int) -> None:
    """Checks that pooling leaves something of the images.

    Raises:
        ModelError: `image_size` (pixels) is below `least`.
    """
    if image_size < least:
        raise ModelError(
            f"{name} needs images of at least {least} x {least} pixels, got {image_size} x {image_size};"
            " raise data.image_size"
        )


def check_gray_or_rgb(name: str, in_channels: int) -> None:
    """Checks the number of channels of a backbone that takes RGB.

    Raises:
        ModelError: neither 1 nor 3.
    """
    if in_channels not in (1, 3):
        raise ModelError(f"{name} takes images of 1 or 3 channels, got {in_channels}")


def to_rgb(images: Tensor) -> Tensor:
    """Gray images `[B, 1, H, W]` with their channel repeated, `[B, 3, H, W]`; RGB images unchanged."""
    return repeat(images, "b 1 h w -> b 3 h w") if images.shape[1] == 1 else images


def channel_stats(values: Sequence[float], in_channels: int) -> tuple[float, ...]:
    """Per-channel statistics for another number of channels: their mean for each."""
    if in_channels == len(values):
        return tuple(values)
    return (sum(values) / len(values),) * in_channels


def token_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """The last `height * width` tokens `[B, T, D]`, those of image patches, as a feature map `[B, D, H, W]`."""
    patches = tokens[:, tokens.shape[1] - height * width :]
    return rearrange(patches, "b (h w) d -> b d h w", h=height, w=width)
