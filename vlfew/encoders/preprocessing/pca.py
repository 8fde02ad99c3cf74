"""Principal components of the training images (Pearson 1901, Hotelling 1933)."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from vlfew.core.checks import check_at_least
from vlfew.core.errors import ModelError
from vlfew.encoders.preprocessing.base import Preprocessing


class PCA(Preprocessing):
    """An image as its first principal components show it, as pixels again: any backbone can follow.

    With V `[components, C * H * W]` and m the mean of the training images, `x -> m + V'V(x - m)`.
    Whitened, every component has the variance 1 on the training images, and m is left out:
    `x -> s V'L^(-1/2)V(x - m)`, L the variances. The factor `s = sqrt(C * H * W / components)` gives
    pixels the variance 1 on average, which is the scale that backbones are given without a front end.

    Args:
        in_channels: C of the images.
        image_size: their side in pixels.
        components: how many are kept; fewer than the training images, and at most `C * H * W`.
        whiten: gives every component the same variance.
        images: at most so many training images are looked at, evenly spread over the split; they
            are held at 8 bytes a number meanwhile.

    Raises:
        ModelError: more components than there can be.
    """

    mean: Tensor
    components: Tensor
    deviation: Tensor

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        *,
        components: int = 64,
        whiten: bool = False,
        images: int = 2048,
    ) -> None:
        super().__init__()
        numbers = in_channels * image_size * image_size
        if not 1 <= components <= numbers:
            raise ModelError(
                f"pca's components is {components}; images of {in_channels} x {image_size} x {image_size} "
                f"have from 1 to {numbers:,}"
            )
        check_at_least("pca's images", images, 2)
        self.out_channels, self.out_size, self.sample = in_channels, image_size, images
        self.whiten = whiten
        options: dict[str, Any] = {"components": components, "whiten": whiten, "images": images}
        self.rebuild = ("pca", options)
        # NaN until they are fitted or loaded: a projection onto nothing would pass for images.
        self.register_buffer("mean", torch.full((numbers,), float("nan")))
        self.register_buffer("components", torch.full((components, numbers), float("nan")))
        self.register_buffer("deviation", torch.full((components,), float("nan")))

    def fit(self, images: Iterable[Tensor]) -> None:
        """Mean, components and their deviations, exact, in float64."""
        x = torch.cat([batch.flatten(1) for batch in images]).double()
        (count, numbers), wanted = x.shape, len(self.components)
        mean = x.mean(0)
        x -= mean
        # X'X and XX' have the same eigenvalues but zero; the smaller one says it all.
        wide = count < numbers
        values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
        values, vectors = values.flip(0), vectors.flip(1)
        most = int((values > values[0] * max(count, numbers) * torch.finfo(x.dtype).eps).sum())
        if wanted > most:
            raise ModelError(
                f"pca's components is {wanted}, but the {count:,} training images it looked at differ in no "
                f"more than {most:,} directions; take at most {most:,}, or more images"
            )
        values, vectors = values[:wanted], vectors[:, :wanted]
        self.mean.copy_(mean)
        self.components.copy_((x.T @ vectors / values.sqrt()).T if wide else vectors.T)
        self.deviation.copy_((values / (count - 1)).sqrt())

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same shape."""
        scores = (images.flatten(1) - self.mean) @ self.components.T
        if self.whiten:
            rank, numbers = self.components.shape
            back = scores / self.deviation @ self.components * sqrt(numbers / rank)
        else:
            back = scores @ self.components + self.mean
        return back.view_as(images)
