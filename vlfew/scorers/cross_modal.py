"""A linear classifier to which words are pictures too."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor
from torch.nn.functional import normalize

from vlfew.features import Features, Space
from vlfew.scorers.adapter import Adapter, require_above_zero
from vlfew.scorers.linear_probe import C
from vlfew.scorers.logistic import logistic_weights
from vlfew.scorers.prototypes import normalised_mean
from vlfew.scorers.scale import fitted_scale
from vlfew.scorers.support import PICTURE, Support


class CrossModal(Adapter):
    """Lin, Yu, Kuang, Pathak and Ramanan 2023, equation 5: pictures and words are samples alike.

    The logistic regression of `LinearProbe` from the words, with every text of a class as one more sample of it, so
    that K shots become K + 1. In the authors' program half of each batch are words; here each item
    counts once, as in the paper's equation. A class may lack pictures.

    Args:
        space: where the embeddings are.
        c: inverse strength of the penalty, as scikit-learn's C.
        scale: of the words where the weights begin; fitted on the pictures of the support when not given.
        steps: of the solver.

    Raises:
        ConfigError: c, scale or steps not above 0.
    """

    needs_words = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"c": (1.0, 10.0, 30.0, 100.0, 1000.0)}

    def __init__(self, space: Space, *, c: float = C, scale: float | None = None, steps: int = 50) -> None:
        super().__init__()
        require_above_zero("cross_modal", c=c, scale=1.0 if scale is None else scale, steps=steps)
        self.c, self.scale, self.steps = c, scale, steps

    def fit(self, support: Support) -> Self:
        words = normalised_mean(self.words(support)).mT
        items = normalize(support.features.embedding, dim=-1)
        pictures = support.of(PICTURE)
        cosines = normalize(pictures.features.embedding, dim=-1) @ words
        scale = fitted_scale(cosines, pictures.class_id) if self.scale is None else self.scale
        prior = scale * words
        self._weights = logistic_weights(items, support.class_id, prior, prior, self.c * scale, self.steps)
        return self

    def score(self, queries: Features) -> Tensor:
        logits: Tensor = normalize(queries.embedding, dim=-1) @ self._weights
        return logits
