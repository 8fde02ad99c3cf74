"""A linear classifier to which words are images too."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.adapter import Adapter
from vlfew.classifiers.linear_probe import C
from vlfew.classifiers.logistic import logistic_weights
from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import IMAGE, Support
from vlfew.core.checks import check_each_positive
from vlfew.core.features import Features, FeatureSpec


class CrossModal(Adapter):
    """Lin, Yu, Kuang, Pathak and Ramanan 2023, equation 5: images and words are samples alike.

    The logistic regression of `LinearProbe` from the words, with every text of a class as one more sample of it, so
    that K shots become K + 1. In the authors' program half of each batch are words; here each item
    counts once, as in the paper's equation. A class may lack images.

    Args:
        feature_spec: where the embeddings are.
        c: inverse strength of the penalty, as scikit-learn's C.
        scale: of the words where the weights begin; fitted on the images of the support when not given.
        steps: of the solver.

    Raises:
        ConfigError: c, scale or steps not above 0.
    """

    needs_text = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"c": (1.0, 10.0, 30.0, 100.0, 1000.0)}

    def __init__(
        self, feature_spec: FeatureSpec, *, c: float = C, scale: float | None = None, steps: int = 50
    ) -> None:
        super().__init__()
        check_each_positive("cross_modal", c=c, scale=1.0 if scale is None else scale, steps=steps)
        self.c, self.scale, self.steps = c, scale, steps

    def fit(self, support: Support) -> Self:
        words = normalized_mean(self.words(support)).mT
        items = normalize(support.features.embedding, dim=-1)
        images = support.of(IMAGE)
        cosines = normalize(images.features.embedding, dim=-1) @ words
        scale = fit_logit_scale(cosines, images.class_id) if self.scale is None else self.scale
        prior = scale * words
        self._weights = logistic_weights(items, support.class_id, prior, prior, self.c * scale, self.steps)
        return self

    def score(self, queries: Features) -> Tensor:
        logits: Tensor = normalize(queries.embedding, dim=-1) @ self._weights
        return logits
