"""The two verbs of the toolkit: take in a support, score queries against it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlfew.features import Features
from vlfew.scorers.support import Support


class Scorer(nn.Module):
    """Scores queries against classes; higher means more alike.

    Built as `SCORERS.get(name)(space, *, option=default, ...)`. Scorers that learn (Koch's weighted L1)
    are trained with the model and saved with it.

    Attributes:
        needs_map: whether it looks at `features.map`, which is then kept beside the embedding.
        learned: whether it has weights, which some term of the objective must train.
        weights_of: the similarity whose trained weights a learned scorer takes, where it is not one itself.
        transductive: whether the score of a query depends on the queries that it comes with, so that an
            episode must come whole.
        needs_words: whether every class must be said in words; with some options it may hold of a scorer
            whose class has it not.
        needs_pictures: whether every class must be shown in pictures. Where that alone holds, a scorer
            goes by pictures alone.
        grid: values of options that a validation split may choose among; without one the defaults hold.
    """

    needs_map = False
    learned = False
    weights_of: str | None = None
    transductive = False
    needs_words = False
    needs_pictures = False
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @abstractmethod
    def fit(self, support: Support) -> Self:
        """Takes in the support (`embedding [..., S, D]`) and returns itself."""

    def carry_to(self, words: Support) -> Self | None:
        """Takes in other classes, said in words alone, with what it learned of those before.

        What learned nothing that other classes could use just takes them in; None where it needs
        pictures of them.
        """
        return None if self.needs_pictures else self.fit(words)

    @abstractmethod
    def score(self, queries: Features) -> Tensor:
        """`queries.embedding [..., Q, D]` to scores `[..., Q, N]`.

        With leading episode dimensions in the support, the queries carry the same ones.
        """

    @abstractmethod
    def pair(self, a: Features, b: Features) -> Tensor:
        """How alike `a` and `b`, of M pictures each, are, row by row: `[M]`. No support is needed."""
