"""The two verbs of the toolkit: take in a support, score queries against it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlfew.classifiers.support import Support
from vlfew.core.features import Features


class FewShotMethod(nn.Module):
    """Scores queries against classes; higher means more alike.

    Built as `CLASSIFIERS.get(name)(space, *, option=default, ...)`. Scorers that learn (Koch's weighted L1)
    are trained with the model and saved with it.

    Attributes:
        needs_map: whether it looks at `features.map`, which is then kept beside the embedding.
        learned: whether it has weights, which some term of the objective must train.
        weights_of: the similarity whose trained weights a learned scorer takes, where it is not one itself.
        score_scale: what cosines or distances are multiplied by in its scores.
        transductive: whether the score of a query depends on the queries that it comes with, so that an
            episode must come whole.
        needs_text: whether every class must be said in words; with some options it may hold of a scorer
            whose class has it not.
        needs_images: whether every class must be shown in images. Where that alone holds, a scorer
            goes by images alone.
        grid: values of options that a validation split may choose among; without one the defaults hold.
    """

    needs_map = False
    learned = False
    weights_of: str | None = None
    score_scale: float = 1.0
    transductive = False
    needs_text = False
    needs_images = False
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @abstractmethod
    def fit(self, support: Support) -> Self:
        """Takes in the support (`embedding [..., S, D]`) and returns itself."""

    def transfer(self, words: Support) -> Self | None:
        """Takes in other classes, said in words alone, with what it learned of those before.

        What learned nothing that other classes could use just takes them in; None where it needs
        images of them.
        """
        return None if self.needs_images else self.fit(words)

    @abstractmethod
    def score(self, queries: Features) -> Tensor:
        """`queries.embedding [..., Q, D]` to scores `[..., Q, N]`.

        With leading episode dimensions in the support, the queries carry the same ones.
        """

    @abstractmethod
    def pair(self, a: Features, b: Features) -> Tensor:
        """How alike `a` and `b`, of M images each, are, row by row: `[M]`. No support is needed."""
