"""ASIF: images and texts of unrelated encoders, compared by their similarities to the same anchor pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.checks import check_each_positive
from vlfew.core.errors import ConfigError
from vlfew.similarities.cosine import cosine_matrix


@dataclass(frozen=True)
class Anchors:
    """A pairs of an image and its text (ASIF: Norelli et al. 2023, section 2). Nothing is trained.

    An image is represented by its cosines to the images of the anchors, a text by its cosines to their texts. Both are
    vectors of A numbers, one per pair, so that any similarity can compare them.

    Attributes:
        images: `[A, D_image]` by an image encoder.
        texts: `[A, D_text]` by a text encoder.

    Raises:
        ConfigError: the numbers of images and texts differ.
    """

    images: Tensor
    texts: Tensor

    def __post_init__(self) -> None:
        if len(self.images) != len(self.texts):
            raise ConfigError(
                f"anchors are pairs, but there are {len(self.images)} images and {len(self.texts)} texts"
            )

    def __len__(self) -> int:
        return len(self.images)

    def add(self, images: Tensor, texts: Tensor) -> Anchors:
        """With further pairs, `[B, D_image]` and `[B, D_text]`, at the end."""
        return Anchors(torch.cat([self.images, images]), torch.cat([self.texts, texts]))

    def remove(self, index: Tensor) -> Anchors:
        """Without the pairs at `index [R]`."""
        mask = torch.ones(len(self), dtype=torch.bool, device=self.images.device)
        mask[index] = False
        return Anchors(self.images[mask], self.texts[mask])

    def relative_images(self, images: Tensor, sparsity: int, exponent: float) -> Tensor:
        """`relative` representation of `images [..., Q, D_image]`: `[..., Q, A]`."""
        return relative(cosine_matrix(images, self.images), sparsity, exponent)

    def relative_texts(self, texts: Tensor, sparsity: int, exponent: float) -> Tensor:
        """`relative` representation of `texts [..., Q, D_text]`: `[..., Q, A]`."""
        return relative(cosine_matrix(texts, self.texts), sparsity, exponent)


def check_anchors(anchors: int, sparsity: int, exponent: float) -> None:
    """Check the settings of `relative`.

    Raises:
        ConfigError: fewer anchors than `sparsity`, or sparsity or exponent not above 0.
    """
    check_each_positive("asif", sparsity=sparsity, exponent=exponent)
    if anchors < sparsity:
        raise ConfigError(
            f"asif uses the {sparsity} most similar anchors and has {anchors}; use more anchors or a lower sparsity"
        )


def relative(cosines: Tensor, sparsity: int, exponent: float) -> Tensor:
    """Unit vectors `[..., A]` of cosines to A anchors: the highest are raised to a power, all others are zero.

    Args:
        cosines: `[..., A]`. Negative ones become zero: an even power would make similar what is dissimilar.
        sparsity: k, how many are nonzero.
        exponent: p, the power.

    Raises:
        ConfigError: see `check_anchors`.
    """
    check_anchors(cosines.shape[-1], sparsity, exponent)
    highest, places = cosines.topk(sparsity, dim=-1)
    highest = highest.clamp(min=0)
    # Relative to the largest: the eighth power of small cosines would vanish before it is normalized.
    highest = highest / highest[..., :1].clamp(min=torch.finfo(highest.dtype).tiny)
    return normalize(torch.zeros_like(cosines).scatter(-1, places, highest**exponent), dim=-1)
