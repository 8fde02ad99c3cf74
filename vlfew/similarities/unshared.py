"""Similarity of images that two backbones encode, one for each side of a comparison."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import Similarity


def left_and_right(features: Features) -> tuple[Features, Features]:
    """Embeddings `[..., 2 D]` of both backbones to `[..., D]` of each."""
    left, right = features.embedding.chunk(2, dim=-1)
    return Features(left), Features(right)


def check_embeddings_only(part: Any) -> None:
    """Check that a similarity or few-shot method works on what unshared backbones give.

    Raises:
        ConfigError: it needs feature maps.
    """
    if part.needs_map:
        raise ConfigError(
            f"{type(part).__name__} needs feature maps, but backbones without shared weights give embeddings only; "
            "set image.share_weights: true"
        )


class UnsharedSimilarity(Similarity):
    """Mean of both directions: left embedding of `a` with right embedding of `b`, and the reverse.

    Embeddings are `[..., 2 D]`: the left backbone's output, then the right backbone's.

    Args:
        inner: compares embeddings `[..., D]`.

    Raises:
        ConfigError: `inner` compares feature maps, of which unshared backbones give none.
    """

    def __init__(self, inner: Similarity) -> None:
        super().__init__(FeatureSpec(0))
        check_embeddings_only(inner)
        self.inner, self.learned, self.reduce = inner, inner.learned, inner.reduce

    def pairwise(self, a: Features, b: Features) -> Tensor:
        (left_a, right_a), (left_b, right_b) = left_and_right(a), left_and_right(b)
        return (self.inner.pairwise(left_a, right_b) + self.inner.pairwise(left_b, right_a)) / 2

    def matrix(self, queries: Features, items: Features) -> Tensor:
        (left_q, right_q), (left_s, right_s) = left_and_right(queries), left_and_right(items)
        return (self.inner.matrix(left_q, right_s) + self.inner.matrix(right_q, left_s)) / 2
