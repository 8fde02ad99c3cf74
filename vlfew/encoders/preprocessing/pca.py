"""Principal components of the training images (Pearson 1901, Hotelling 1933)."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan, sqrt

import torch
from einops import rearrange
from torch import Tensor, nn

from vlfew.core.checks import check_at_least
from vlfew.core.errors import ModelError
from vlfew.encoders.preprocessing.base import Preprocessing


class PCA(Preprocessing):
    """Projects images onto their first principal components and back to pixels, so any backbone can follow.

    With components V `[K, C * H * W]` and the mean m of the training images, `x -> m + V'V(x - m)`. With whitening
    every component has variance 1 on the training images, and m is left out: `x -> s V'L^(-1/2)V(x - m)`, where L
    holds the variances. The factor `s = sqrt(C * H * W / K)` gives pixels an average variance of 1, as the backbone's
    input has without preprocessing.

    Args:
        in_channels: C of the images.
        image_size: height and width in pixels.
        components: K; fewer than the training images, and at most `C * H * W`.
        whiten: scale every component to the same variance.
        images: largest number of training images used for fitting, spread evenly over the split; they take 8 bytes
            per value during the fit.

    Raises:
        ModelError: more components than values in an image.
    """

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
        size = in_channels * image_size * image_size
        if not 1 <= components <= size:
            raise ModelError(
                f"pca's components is {components}; images of {in_channels} x {image_size} x {image_size} "
                f"have from 1 to {size:,}"
            )
        check_at_least("pca's images", images, 2)
        self.out_channels, self.out_size, self.max_fit_images = in_channels, image_size, images
        self.whiten = whiten
        # NaN until they are fitted or loaded: a projection onto zeros would pass for images.
        self.mean = nn.Buffer(torch.full((size,), nan))
        self.components = nn.Buffer(torch.full((components, size), nan))
        self.deviation = nn.Buffer(torch.full((components,), nan))

    def fit(self, images: Iterable[Tensor]) -> None:
        """Computes mean, components and their standard deviations, exact, in float64."""
        x = torch.cat([rearrange(batch, "b c h w -> b (c h w)") for batch in images]).double()
        (count, size), components = x.shape, len(self.components)
        mean = x.mean(0)
        x -= mean
        # X'X and XX' have the same nonzero eigenvalues; the smaller matrix is enough.
        wide = count < size
        values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
        values, vectors = values.flip(0), vectors.flip(1)
        rank = int((values > values[0] * max(count, size) * torch.finfo(x.dtype).eps).sum())
        if components > rank:
            raise ModelError(
                f"pca's components is {components}, but the {count:,} training images it was fitted to have rank "
                f"{rank:,}; use at most {rank:,} components, or more images"
            )
        values, vectors = values[:components], vectors[:, :components]
        self.mean.copy_(mean)
        self.components.copy_((x.T @ vectors / values.sqrt()).T if wide else vectors.T)
        self.deviation.copy_((values / (count - 1)).sqrt())

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same shape."""
        scores = (images.flatten(1) - self.mean) @ self.components.T
        if self.whiten:
            rank, size = self.components.shape
            reconstructed = scores / self.deviation @ self.components * sqrt(size / rank)
        else:
            reconstructed = scores @ self.components + self.mean
        return reconstructed.view_as(images)
