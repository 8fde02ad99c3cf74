"""Few-shot with text: prototypes of images and texts."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.prototypes import CosineMethod, normalized_mean
from vlfew.classifiers.similarity_classifier import SimilarityClassifier
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_range
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.cosine import CLIP_TEMPERATURE, cosine_matrix


def multimodal_method(
    image_method: FewShotMethod, feature_spec: FeatureSpec, text_weight: float, adaptive: bool = False
) -> FewShotMethod:
    """The method for images and texts of a model whose own method for images is `image_method`.

    Usually `MultimodalPrototypes`; `ScoreMixture` where the model learned a similarity that texts cannot take part in,
    because they have no feature map, for example.

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """
    if (
        isinstance(image_method, SimilarityClassifier)
        and image_method.learned
        and (adaptive or text_weight < 1)
    ):
        return ScoreMixture(image_method, text_weight, adaptive)
    return MultimodalPrototypes(feature_spec, text_weight=text_weight, adaptive=adaptive)


class MultimodalPrototypes(CosineMethod):
    """Cosine to `normalize((1 - w) * images + w * texts)`, both of them normalized means.

    A class with images only or texts only has these alone.

    Args:
        feature_spec: sizes of the features.
        text_weight: weight w of the text, in `[0, 1]`.
        adaptive: give each class its own weight, at most w (`adaptive_weight`).

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """

    grid: ClassVar[dict[str, tuple[float, ...]]] = {
        "text_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    }

    def __init__(
        self, feature_spec: FeatureSpec, *, text_weight: float = 0.5, adaptive: bool = False
    ) -> None:
        super().__init__()
        check_range("text_weight", text_weight, 0, 1)
        self.text_weight, self.adaptive = text_weight, adaptive

    def fit(self, support: SupportSet) -> Self:
        support.check_items("multimodal_prototypes")
        images, texts = support.images, support.texts
        weight = text_weights(support, self.text_weight, self.adaptive)
        weight[..., images.counts() == 0, :] = 1.0
        weight[..., texts.counts() == 0, :] = 0.0
        mixture = (1 - weight) * normalized_mean(images) + weight * normalized_mean(texts)
        self._prototypes = normalize(mixture, dim=-1)
        return self


class ScoreMixture(FewShotMethod):
    """`(1 - w) * similarity to the images + w * cosine to the texts`.

    The similarity to the images, cross attention between feature maps for example, is divided by its `score_scale`.

    Args:
        image_method: scores queries against images.
        text_weight: weight w of the text, in `[0, 1]`.
        adaptive: give each class its own weight, at most w (`adaptive_weight`).

    Raises:
        ConfigError: text_weight outside `[0, 1]`.
    """

    softmax_temperature = CLIP_TEMPERATURE

    def __init__(
        self, image_method: SimilarityClassifier, text_weight: float, adaptive: bool = False
    ) -> None:
        super().__init__()
        check_range("text_weight", text_weight, 0, 1)
        self.image_method, self.text_weight, self.adaptive = image_method, text_weight, adaptive
        self.needs_map = image_method.needs_map

    def fit(self, support: SupportSet) -> Self:
        """Fit images and texts; every class needs both.

        Raises:
            VlfewError: names a class without images or without texts.
        """
        texts = support.texts
        texts.check_items("the text share of a mixture")
        self.image_method.fit(support.images)
        self._texts = normalized_mean(texts)
        self._weight = text_weights(support, self.text_weight, self.adaptive).mT
        return self

    def logits(self, queries: Features) -> Tensor:
        images = self.image_method.logits(queries) / self.image_method.similarity.score_scale
        return torch.lerp(images, cosine_matrix(queries.embedding, self._texts), self._weight)


def text_weights(support: SupportSet, text_weight: float, adaptive: bool) -> Tensor:
    """The weight of the text of each class, `[..., N, 1]`: `text_weight`, or `adaptive_weight` of those with both."""
    embedding = support.features.embedding
    weight = embedding.new_full((*embedding.shape[:-2], support.n_classes, 1), text_weight)
    images, texts = support.images, support.texts
    both = (images.counts() > 0) & (texts.counts() > 0)
    if adaptive and both.sum() > 1:
        means = normalized_mean(images)[..., both, :], normalized_mean(texts)[..., both, :]
        weight[..., both, :] = adaptive_weight(*means, text_weight)
    return weight


def adaptive_weight(images: Tensor, texts: Tensor, text_weight: float) -> Tensor:
    """`w * (1 + p) / 2`: the weight of a text depends on how well it recognizes the images of its own class.

    p is the probability of the right text for the mean image of each class: the softmax of the cosines between images
    and texts, standardized over all pairs, since their spread differs between models. Like the adaptive mixture of
    Xing et al. (2019), but computed from the support set instead of learned.

    Args:
        images: `[..., N, D]`, unit vectors, the mean image of each of at least 2 classes.
        texts: `[..., N, D]`, their texts.
        text_weight: w.

    Returns:
        `[..., N, 1]`, between w / 2 and w.
    """
    cosines = images @ texts.mT
    spread = cosines.std((-2, -1), keepdim=True).clamp(min=torch.finfo(cosines.dtype).eps)
    standardized = (cosines - cosines.mean((-2, -1), keepdim=True)) / spread
    own = standardized.softmax(-1).diagonal(dim1=-2, dim2=-1)
    return text_weight * (1 + own[..., None]) / 2
