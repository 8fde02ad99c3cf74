"""A class is the mean of its items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import TEXT, Support
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import (
    cosine,
    cosine_matrix,
    negative_squared_distance,
    negative_squared_distance_matrix,
)


def normalized_mean(support: Support) -> Tensor:
    """`[..., N, D]`: items normalized, averaged, normalized again; zeros for classes without items.

    Normalized first, so that each item has the same say however long its vector; normalized after,
    so that a class whose items scatter, and whose mean is short, does not score lower for it. The
    result is the direction with the largest mean cosine to the items. Over prompts this is the usual
    zero-shot ensemble (Radford et al. 2021, section 3.1.4).
    """
    return normalize(support.mean_of(normalize(support.features.embedding, dim=-1)), dim=-1)


def mean_texts(encode: Callable[[list[str]], Tensor], texts: Sequence[Sequence[str]]) -> Tensor:
    """`[C, D]` unit vectors of the `texts` of C classes, by an encoder to `[T, D]`: their normalized means."""
    counts = torch.tensor([len(t) for t in texts])
    return normalized_mean(
        Support(
            Features(encode([text for of_class in texts for text in of_class])),
            torch.arange(len(texts)).repeat_interleave(counts),
            len(texts),
            torch.full((int(counts.sum()),), TEXT),
        )
    )


class Prototypes(FewShotMethod):
    """Snell, Swersky, Zemel 2017, equations 1 and 2: similarity to the class means.

    Args:
        feature_spec: where the embeddings are.
        metric: `cosine` to `normalized_mean`, or `euclidean`, the negative squared distance to the
            plain mean.
    """

    needs_images = True

    def __init__(
        self, feature_spec: FeatureSpec, *, metric: Literal["cosine", "euclidean"] = "cosine"
    ) -> None:
        super().__init__()
        self.metric = metric

    def fit(self, support: Support) -> Self:
        support.check_items(type(self).__name__)
        if self.metric == "cosine":
            self._prototypes = normalized_mean(support)
        else:
            self._prototypes = support.mean_of(support.features.embedding)
        return self

    def score(self, queries: Features) -> Tensor:
        matrix = cosine_matrix if self.metric == "cosine" else negative_squared_distance_matrix
        return matrix(queries.embedding, self._prototypes)

    def pair(self, a: Features, b: Features) -> Tensor:
        rows = cosine if self.metric == "cosine" else negative_squared_distance
        return rows(a.embedding, b.embedding)
