"""A class is what its words say."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from vlfew.classifiers.adapter import Adapter
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import Support
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import cosine_matrix


class ZeroShot(Adapter):
    """Radford et al. 2021, section 3.1: cosine to the normalized mean of a class's words; images have no say.

    Args:
        feature_spec: where the embeddings are.
    """

    needs_text = True

    def __init__(self, feature_spec: FeatureSpec) -> None:
        super().__init__()

    def fit(self, support: Support) -> Self:
        self._words = normalized_mean(self.words(support))
        return self

    def score(self, queries: Features) -> Tensor:
        return cosine_matrix(queries.embedding, self._words)
