"""A class is what its pictures show and its words say."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.checks import require_within
from vlfew.features import Features, Space
from vlfew.scorers.adapter import Adapter
from vlfew.scorers.base import Scorer
from vlfew.scorers.prototypes import normalised_mean
from vlfew.scorers.similarity import cosine_matrix
from vlfew.scorers.support import PICTURE, WORDS, Support


def beside_words(pictures: Scorer, space: Space, text_weight: float) -> Scorer:
    """What answers by pictures and words, in a model that answers by pictures with `pictures`.

    One prototype of both (`PicturesAndWords`); scores of both (`ScoresOfBoth`) where the model learned to
    compare pictures in a way that words cannot join, having no maps for example.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """
    if pictures.learned and text_weight < 1:
        return ScoresOfBoth(pictures, text_weight)
    return PicturesAndWords(space, text_weight=text_weight)


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
        require_within("text_weight", text_weight, 0, 1)
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


class ScoresOfBoth(Scorer):
    """`(1 - w) * score of the pictures + w * cosine to the words`, which may be compared in unlike ways.

    The pictures' score is that of a scorer of their own, over its `score_scale`: cross attention between maps,
    say, while the words meet the query's embedding.

    Args:
        pictures: scores queries against pictures.
        text_weight: w in `[0, 1]`.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """

    def __init__(self, pictures: Scorer, text_weight: float) -> None:
        super().__init__()
        require_within("text_weight", text_weight, 0, 1)
        self.pictures, self.text_weight = pictures, text_weight
        self.needs_map, self.transductive = pictures.needs_map, pictures.transductive

    def fit(self, support: Support) -> Self:
        """Takes in pictures and words, both of every class.

        Raises:
            VlfewError: a class without pictures, or without words; names it.
        """
        words = support.of(WORDS)
        words.require_items("the share of the words")
        self.pictures.fit(support.of(PICTURE))
        self._words = normalised_mean(words)
        return self

    def score(self, queries: Features) -> Tensor:
        shown = self.pictures.score(queries) / self.pictures.score_scale
        return torch.lerp(shown, cosine_matrix(queries.embedding, self._words), self.text_weight)

    def pair(self, a: Features, b: Features) -> Tensor:
        return self.pictures.pair(a, b)
