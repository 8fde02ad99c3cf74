"""A scorer for tests: prototypes whose scores are multiplied by an option, wrongly so by default."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlfew.classifiers.prototypes import Prototypes
from vlfew.core.features import Features, FeatureSpec


class Knob(Prototypes):
    """Args:
    feature_spec: where the embeddings are.
    factor: of the scores; below zero, the least alike class is named.
    seed: is noted.
    """

    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"factor": (5.0, 9.0)}

    def __init__(self, feature_spec: FeatureSpec, *, factor: float = -1.0, seed: int = 0) -> None:
        super().__init__(feature_spec)
        self.factor, self.seed = factor, seed

    def logits(self, queries: Features) -> Tensor:
        return self.factor * super().logits(queries)
