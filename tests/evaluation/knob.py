"""A few-shot method for tests: prototypes with logits times an option, whose default is wrong."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlfew.classifiers.prototypes import Prototypes
from vlfew.core.features import Features, FeatureSpec


class Knob(Prototypes):
    """Args:
    feature_spec: of the embeddings.
    factor: of the logits; below zero, the least similar class is predicted.
    seed: is stored.
    """

    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"factor": (5.0, 9.0)}

    def __init__(self, feature_spec: FeatureSpec, *, factor: float = -1.0, seed: int = 0) -> None:
        super().__init__(feature_spec)
        self.factor, self.seed = factor, seed

    def logits(self, queries: Features) -> Tensor:
        return self.factor * super().logits(queries)
