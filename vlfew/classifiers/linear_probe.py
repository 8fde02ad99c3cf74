"""A linear classifier over the images of the support."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.adapter import Adapter
from vlfew.classifiers.logistic import logistic_weights
from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import Support
from vlfew.core.checks import check_each_positive
from vlfew.core.features import Features, FeatureSpec

C = 30.0
"""CLIP's linear probe has C = 0.316 on features of length about 10: 100 times that on unit vectors."""


class LinearProbe(Adapter):
    """Logistic regression on unit vectors with an L2 penalty (Radford et al. 2021, section 3.2).

    From `random`, the weights begin at random and the penalty draws them to zero: the objective is convex,
    so the beginning is forgotten. From `text`, they begin as the zero-shot classifier, the words times
    their scale, and the penalty draws them back to it, as in Silva-Rodríguez et al. 2024, section 4; drawn to
    zero, they would forget the words as well. That pull is weaker by the scale, since the longer the
    classifier, the further it has to go. There is no bias.

    Args:
        feature_spec: where the embeddings are.
        start: `random`, which needs no words, or `text`.
        c: inverse strength of the penalty, as scikit-learn's C; see `C`.
        scale: of the words; fitted on the images of the support when not given (`fit_logit_scale`).
        steps: of the solver; at 50 the loss is within 0.1% of its least for C up to 30.
        seed: of the random start.

    Raises:
        ConfigError: c, scale or steps not above 0.
    """

    needs_images = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"c": (1.0, 10.0, 30.0, 100.0, 1000.0)}

    def __init__(
        self,
        feature_spec: FeatureSpec,
        *,
        start: Literal["random", "text"] = "random",
        c: float = C,
        scale: float | None = None,
        steps: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_each_positive("linear_probe", c=c, scale=1.0 if scale is None else scale, steps=steps)
        self.needs_text = start == "text"
        self.c, self.scale, self.steps, self.seed = c, scale, steps, seed

    def fit(self, support: Support) -> Self:
        images, class_id = self.images(support)
        if self.needs_text:
            words = normalized_mean(self.words(support)).mT
            scale = fit_logit_scale(images @ words, class_id) if self.scale is None else self.scale
            prior = start = scale * words
            c = self.c * scale
        else:
            shape = (images.shape[-1], support.n_classes)
            drawn = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)) / shape[0] ** 0.5
            prior = images.new_zeros(*images.shape[:-2], *shape)
            start, c = drawn.to(prior).expand_as(prior), self.c
        self._weights = logistic_weights(images, class_id, prior, start, c, self.steps)
        return self

    def score(self, queries: Features) -> Tensor:
        logits: Tensor = normalize(queries.embedding, dim=-1) @ self._weights
        return logits
