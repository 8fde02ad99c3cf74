"""A scorer for tests: prototypes whose scores are multiplied by an option, wrongly so by default."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlfew.features import Features, Space
from vlfew.scorers.prototypes import Prototypes


class Knob(Prototypes):
    """Args:
    space: where the embeddings are.
    factor: of the scores; below zero, the least alike class is named.
    seed: is noted.
    """

    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"factor": (5.0, 9.0)}

    def __init__(self, space: Space, *, factor: float = -1.0, seed: int = 0) -> None:
        super().__init__(space)
        self.factor, self.seed = factor, seed

    def score(self, queries: Features) -> Tensor:
        return self.factor * super().score(queries)
