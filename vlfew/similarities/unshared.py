"""ShareWeights that share no weights: an image has a left and a right side."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Self

from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import Support
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features


class Unshared(FewShotMethod):
    """How alike the left of each is to the right of the other, on average: the same whichever comes first.

    Embeddings are `[..., 2 D]`, what the left stream gives beside what the right one gives.

    Args:
        inner: scores embeddings `[..., D]`, a left against a right one.

    Raises:
        ConfigError: a scorer that looks at maps.
    """

    def __init__(self, inner: FewShotMethod) -> None:
        super().__init__()
        if inner.needs_map:
            raise ConfigError(
                f"{type(inner).__name__} looks at maps, and twins that share no weights give embeddings only; "
                "take image.share_weights: true"
            )
        self.inner, self.learned = inner, inner.learned
        self.needs_text, self.needs_images = inner.needs_text, inner.needs_images

    def fit(self, support: Support) -> Self:
        # Each side of the support stands for the class against the other side of the queries.
        left, right = _sides(support.features)
        self._by_right = deepcopy(self.inner).fit(replace(support, features=right))
        self._by_left = deepcopy(self.inner).fit(replace(support, features=left))
        return self

    def score(self, queries: Features) -> Tensor:
        left, right = _sides(queries)
        return (self._by_right.score(left) + self._by_left.score(right)) / 2

    def pair(self, a: Features, b: Features) -> Tensor:
        (left_a, right_a), (left_b, right_b) = _sides(a), _sides(b)
        return (self.inner.pair(left_a, right_b) + self.inner.pair(left_b, right_a)) / 2


def _sides(features: Features) -> tuple[Features, Features]:
    """`[..., 2 D]` to the left and the right `[..., D]`."""
    left, right = features.embedding.chunk(2, dim=-1)
    return Features(left), Features(right)
