"""Prototypes: the mean of a class's items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import TEXT, SupportSet
from vlfew.core.errors import VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.cosine import CLIP_TEMPERATURE, cosine_matrix


def normalized_mean(support: SupportSet) -> Tensor:
    """Normalized means of the normalized items of each class, `[..., N, D]`; zeros for classes without items.

    This is the direction with the largest mean cosine to the items. Each item counts the same whatever the length of
    its vector, and a class of scattered items does not score lower. Over prompts it is the usual zero-shot ensemble
    (Radford et al. 2021, section 3.1.4).
    """
    return normalize(support.mean(normalize(support.features.embedding, dim=-1)), dim=-1)


def unit_images(support: SupportSet, method: str) -> tuple[Tensor, Tensor]:
    """Unit vectors of the images, `[..., S, D]`, and their classes, `[S]`.

    Raises:
        VlfewError: a class has no image.
    """
    images = support.images
    if empty := images.first_empty():
        raise VlfewError(
            f"class {empty} has no images in the support, which {method} needs; add at least one image per class, or "
            "use zero_shot, which needs only texts"
        )
    return normalize(images.features.embedding, dim=-1), images.class_id


def text_prototypes(support: SupportSet, method: str) -> Tensor:
    """The `normalized_mean` of the texts of each class, `[..., N, D]`.

    Raises:
        VlfewError: a class has no text; lists the methods that need none.
    """
    texts = support.texts
    if empty := texts.first_empty():
        raise VlfewError(
            f"class {empty} has no texts in the support, which {method} needs; "
            f"methods without text: {', '.join(CLASSIFIERS.image_only())}"
        )
    return normalized_mean(texts)


def encode_class_texts(encode: Callable[[list[str]], Tensor], texts: Sequence[Sequence[str]]) -> Tensor:
    """Unit vectors `[N, D]` of N classes, the normalized means of their texts; `encode` gives `[T, D]`."""
    counts = torch.tensor([len(t) for t in texts])
    class_id = torch.arange(len(texts)).repeat_interleave(counts)
    features = Features(encode([text for of_class in texts for text in of_class]))
    return normalized_mean(SupportSet(features, class_id, len(texts), torch.full_like(class_id, TEXT)))


class CosineMethod(FewShotMethod):
    """A method whose logits are cosines to one vector per class, `self._prototypes [..., N, D]`."""

    softmax_temperature = CLIP_TEMPERATURE
    _prototypes: Tensor

    def logits(self, queries: Features) -> Tensor:
        return cosine_matrix(queries.embedding, self._prototypes)


class Prototypes(FewShotMethod):
    """Similarity to the class means (Snell, Swersky and Zemel 2017, equations 1 and 2).

    Args:
        feature_spec: sizes of the features.
        metric: `cosine` to the `normalized_mean`, or `euclidean`, the negative squared distance to the plain mean.
    """

    needs_images = True

    def __init__(
        self, feature_spec: FeatureSpec, *, metric: Literal["cosine", "euclidean"] = "cosine"
    ) -> None:
        super().__init__()
        self.metric, self._similarity = metric, SIMILARITIES.get(metric)(feature_spec)
        self.softmax_temperature = self._similarity.softmax_temperature

    def fit(self, support: SupportSet) -> Self:
        support.check_items("Prototypes")
        cosine = self.metric == "cosine"
        self._prototypes = normalized_mean(support) if cosine else support.mean(support.features.embedding)
        return self

    def logits(self, queries: Features) -> Tensor:
        scores: Tensor = self._similarity.matrix(queries, Features(self._prototypes))
        return scores
