"""Two spaces that know nothing of each other, tied by pairs: images and words are alike that have like pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.checks import check_each_positive
from vlfew.core.errors import ConfigError
from vlfew.similarities.base import cosine_matrix


@dataclass(frozen=True)
class Anchors:
    """A pairs of an image and its words (ASIF: Norelli et al. 2023, section 2). Nothing is trained.

    An image is described by its cosines to the anchors' images, and words by theirs to the anchors' words: both
    as a vector of A numbers, one for each pair, so that any scorer can set one against the other.

    Attributes:
        images: `[A, D_p]` by an encoder of images.
        words: `[A, D_w]` by an encoder of words; another space.

    Raises:
        ConfigError: not as many words as images.
    """

    images: Tensor
    words: Tensor

    def __post_init__(self) -> None:
        if len(self.images) != len(self.words):
            raise ConfigError(
                f"anchors are pairs, and here are {len(self.images)} images and {len(self.words)} words"
            )

    def __len__(self) -> int:
        return len(self.images)

    def add(self, images: Tensor, words: Tensor) -> Anchors:
        """With further pairs `[B, D_p]` and `[B, D_w]` at the end."""
        return Anchors(torch.cat([self.images, images]), torch.cat([self.words, words]))

    def remove(self, numbers: Tensor) -> Anchors:
        """Without the pairs of these `numbers [R]`; those that stay keep their order."""
        stay = torch.ones(len(self), dtype=torch.bool, device=self.images.device)
        stay[numbers] = False
        return Anchors(self.images[stay], self.words[stay])

    def of_images(self, images: Tensor, sparsity: int, exponent: float) -> Tensor:
        """`relative` of `images [..., Q, D_p]`: `[..., Q, A]`."""
        return relative(cosine_matrix(images, self.images), sparsity, exponent)

    def of_words(self, words: Tensor, sparsity: int, exponent: float) -> Tensor:
        """`relative` of `words [..., Q, D_w]`: `[..., Q, A]`."""
        return relative(cosine_matrix(words, self.words), sparsity, exponent)


def check_enough(anchors: int, sparsity: int, exponent: float) -> None:
    """Holds the settings to what `relative` can do with so many anchors.

    Raises:
        ConfigError: fewer anchors than are kept, or sparsity or exponent not above 0.
    """
    check_each_positive("asif", sparsity=sparsity, exponent=exponent)
    if anchors < sparsity:
        raise ConfigError(
            f"asif keeps the {sparsity} likest anchors and has {anchors}; give more anchors or a lower sparsity"
        )


def relative(cosines: Tensor, sparsity: int, exponent: float) -> Tensor:
    """Unit vectors `[..., A]` of cosines to A anchors: all but the highest are zero, and those are raised to a power.

    Args:
        cosines: `[..., A]`. What is below zero is unlike, and becomes zero: an even power would turn it into pair_similarity.
        sparsity: k, how many are kept.
        exponent: p.

    Raises:
        ConfigError: as `check_enough`.
    """
    check_enough(cosines.shape[-1], sparsity, exponent)
    highest, places = cosines.topk(sparsity, dim=-1)
    kept = torch.zeros_like(cosines).scatter(-1, places, highest.clamp(min=0) ** exponent)
    return normalize(kept, dim=-1)
