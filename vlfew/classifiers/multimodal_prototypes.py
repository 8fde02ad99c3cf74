"""A class is what its images show and its words say."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.adapter import Adapter
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import IMAGE, TEXT, Support
from vlfew.core.checks import check_range
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import cosine_matrix


def with_text(images: FewShotMethod, feature_spec: FeatureSpec, text_weight: float) -> FewShotMethod:
    """What answers by images and words, in a model that answers by images with `images`.

    One prototype of both (`MultimodalPrototypes`); scores of both (`ScoreMixture`) where the model learned to
    compare images in a way that words cannot join, having no maps for example.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """
    if images.learned and text_weight < 1:
        return ScoreMixture(images, text_weight)
    return MultimodalPrototypes(feature_spec, text_weight=text_weight)


class MultimodalPrototypes(Adapter):
    """Cosine to `normalize((1 - w) * images + w * words)`, both being normalized means.

    A class with only images or only words is what it has.

    Args:
        feature_spec: where the embeddings are.
        text_weight: w in `[0, 1]`.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """

    grid: ClassVar[dict[str, tuple[float, ...]]] = {
        "text_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    }

    def __init__(self, feature_spec: FeatureSpec, *, text_weight: float = 0.5) -> None:
        super().__init__()
        check_range("text_weight", text_weight, 0, 1)
        self.text_weight = text_weight

    def fit(self, support: Support) -> Self:
        support.check_items(type(self).__name__)
        images, words = support.of(IMAGE), support.of(TEXT)
        weight = support.features.embedding.new_full((support.n_classes, 1), self.text_weight)
        weight[images.counts() == 0] = 1.0
        weight[words.counts() == 0] = 0.0
        mixed = (1 - weight) * normalized_mean(images) + weight * normalized_mean(words)
        self._prototypes = normalize(mixed, dim=-1)
        return self

    def score(self, queries: Features) -> Tensor:
        return cosine_matrix(queries.embedding, self._prototypes)


class ScoreMixture(FewShotMethod):
    """`(1 - w) * score of the images + w * cosine to the words`, which may be compared in unlike ways.

    The images' score is that of a scorer of their own, over its `score_scale`: cross attention between maps,
    say, while the words meet the query's embedding.

    Args:
        images: scores queries against images.
        text_weight: w in `[0, 1]`.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """

    def __init__(self, images: FewShotMethod, text_weight: float) -> None:
        super().__init__()
        check_range("text_weight", text_weight, 0, 1)
        self.images, self.text_weight = images, text_weight
        self.needs_map, self.transductive = images.needs_map, images.transductive

    def fit(self, support: Support) -> Self:
        """Takes in images and words, both of every class.

        Raises:
            VlfewError: a class without images, or without words; names it.
        """
        words = support.of(TEXT)
        words.check_items("the share of the words")
        self.images.fit(support.of(IMAGE))
        self._words = normalized_mean(words)
        return self

    def score(self, queries: Features) -> Tensor:
        shown = self.images.score(queries) / self.images.score_scale
        return torch.lerp(shown, cosine_matrix(queries.embedding, self._words), self.text_weight)

    def pair(self, a: Features, b: Features) -> Tensor:
        return self.images.pair(a, b)
