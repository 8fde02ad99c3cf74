"""A class is what its pictures show and its words say."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor
from torch.nn.functional import normalize

from vlfew.errors import ConfigError
from vlfew.features import Features, Space
from vlfew.scorers.adapter import Adapter
from vlfew.scorers.prototypes import normalised_mean
from vlfew.scorers.similarity import cosine_matrix
from vlfew.scorers.support import PICTURE, WORDS, Support


class PicturesAndWords(Adapter):
    """Cosine to `normalise((1 - w) * pictures + w * words)`, both being normalised means.

    A class with only pictures or only words is what it has.

    Args:
        space: where the embeddings are.
        text_weight: w in `[0, 1]`.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """

    grid: ClassVar[dict[str, tuple[float, ...]]] = {
        "text_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    }

    def __init__(self, space: Space, *, text_weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= text_weight <= 1:
            raise ConfigError(f"text_weight {text_weight} is not between 0 (pictures) and 1 (words)")
        self.text_weight = text_weight

    def fit(self, support: Support) -> Self:
        support.require_items(type(self).__name__)
        pictures, words = support.of(PICTURE), support.of(WORDS)
        weight = support.features.embedding.new_full((support.n_classes, 1), self.text_weight)
        weight[pictures.counts() == 0] = 1.0
        weight[words.counts() == 0] = 0.0
        mixed = (1 - weight) * normalised_mean(pictures) + weight * normalised_mean(words)
        self._prototypes = normalize(mixed, dim=-1)
        return self

    def score(self, queries: Features) -> Tensor:
        return cosine_matrix(queries.embedding, self._prototypes)
