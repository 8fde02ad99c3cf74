"""A class is what its words say."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from vlfew.features import Features, Space
from vlfew.scorers.adapter import Adapter
from vlfew.scorers.prototypes import normalised_mean
from vlfew.scorers.similarity import cosine_matrix
from vlfew.scorers.support import Support


class ZeroShot(Adapter):
    """Radford et al. 2021, section 3.1: cosine to the normalised mean of a class's words; pictures have no say.

    Args:
        space: where the embeddings are.
    """

    needs_words = True

    def __init__(self, space: Space) -> None:
        super().__init__()

    def fit(self, support: Support) -> Self:
        self._words = normalised_mean(self.words(support))
        return self

    def score(self, queries: Features) -> Tensor:
        return cosine_matrix(queries.embedding, self._words)
