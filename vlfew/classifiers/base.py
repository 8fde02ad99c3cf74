"""The interface of all few-shot methods: fit a support set, score queries against its classes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlfew.classifiers.support import SupportSet
from vlfew.core.features import Features


class FewShotMethod(nn.Module):
    """Scores queries against the classes of a support set, on frozen features.

    Attributes:
        needs_map: whether it uses `features.map`, which is then stored along with the embedding.
        needs_text: whether every class needs texts; some methods decide by their options.
        needs_images: whether every class needs images. A method that needs images and no text ignores texts.
        learned: whether it has weights that were trained with the model.
        required_similarity: the similarity whose trained weights it needs; it is then built with `similarity=`.
        transductive: whether the logits of a query depend on the other queries of its episode.
        softmax_temperature: what logits are divided by for a softmax, where nothing better is known.
        grid: values of options that a validation split may choose from.
    """

    needs_map = False
    needs_text = False
    needs_images = False
    learned = False
    required_similarity: str | None = None
    transductive = False
    softmax_temperature: float = 1.0
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @abstractmethod
    def fit(self, support: SupportSet) -> Self:
        """Fit the support set, `embedding [..., S, D]`, and return itself."""

    @abstractmethod
    def logits(self, queries: Features) -> Tensor:
        """Scores `[..., Q, N]` of `queries.embedding [..., Q, D]`; higher is more likely.

        Leading dimensions are a batch of episodes, the same in the support set and the queries.
        """

    def transfer(self, texts: SupportSet) -> Self | None:
        """Switch to other classes that have only texts, with what was learned from the classes before.

        Returns:
            Itself; None where it needs images of the new classes.
        """
        return None if self.needs_images else self.fit(texts)
