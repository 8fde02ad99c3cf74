"""Every similarity as a few-shot method."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import SupportSet
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import Similarity


class SimilarityClassifier(FewShotMethod):
    """Scores a class by the similarities of a query to its items: their mean or maximum.

    A similarity with `averages_items` is computed once per class, to the mean of the features of its items.

    Args:
        similarity: compares queries with items; `similarity.reduce` is `mean` or `max`.
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity
        self.needs_map = self.needs_images = similarity.needs_map
        self.learned, self.softmax_temperature = similarity.learned, similarity.softmax_temperature

    def fit(self, support: SupportSet) -> Self:
        support.check_items(type(self.similarity).__name__)
        if self.similarity.averages_items:
            dtype = next(self.similarity.parameters()).dtype  # means of half-precision maps would be coarse
            support = support.class_means(dtype)
        self._support = support
        return self

    def logits(self, queries: Features) -> Tensor:
        support = self._support
        scores = self.similarity.matrix(queries, support.features)
        if support.one_item_per_class():
            return scores
        reduce = "mean" if self.similarity.reduce == "mean" else "amax"
        return scores.new_zeros(*scores.shape[:-1], support.n_classes).scatter_reduce(
            -1, support.class_id.expand_as(scores), scores, reduce=reduce, include_self=False
        )


class SimilarityMethod:
    """Builds the `SimilarityClassifier` of a registered similarity; has the class attributes of a `FewShotMethod`.

    Args:
        name: of the similarity.
        component: its class.
    """

    needs_text = transductive = False
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def __init__(self, name: str, component: Any) -> None:
        self._component = component
        self.learned = component.learned
        self.needs_map = self.needs_images = component.needs_map
        self.required_similarity = name if self.learned else None

    def __call__(
        self, feature_spec: FeatureSpec, similarity: Similarity | None = None, **options: Any
    ) -> SimilarityClassifier:
        if similarity is None:
            return SimilarityClassifier(self._component(feature_spec, **options))
        similarity.reduce = options.get(
            "reduce", similarity.reduce
        )  # its other options are part of what was trained
        return SimilarityClassifier(similarity)
