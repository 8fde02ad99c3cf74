"""The interface of all similarities."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from torch import Tensor, nn

from vlfew.core.features import Features, FeatureSpec

Reduce = Literal["mean", "max"]
EPS = 1e-12
"""Length below which a vector counts as zero, as in `torch.nn.functional.normalize`."""


class Similarity(nn.Module):
    """Compares images with each other; higher means more similar.

    Called with embeddings `[..., Q, E]` and `[..., S, E]`, or with `Features`, it is `matrix`.

    Args:
        feature_spec: sizes of the features that are compared.
        reduce: how a class with several images is scored: by the `mean` of their similarities, or by the `max`
            (nearest neighbor).

    Attributes:
        needs_map: whether it compares `features.map` instead of the embedding.
        learned: whether it has weights, which the objective must train; they are saved with the model.
        averages_items: whether the images of a class are averaged before they are compared; `reduce` is then unused.
        score_scale: the factor in front of its cosines.
        softmax_temperature: what scores are divided by to be logits of a softmax, where nothing better is known.
    """

    needs_map = False
    learned = False
    averages_items = False
    score_scale: float = 1.0
    softmax_temperature: float = 1.0

    def __init__(self, feature_spec: FeatureSpec, *, reduce: Reduce = "mean") -> None:
        super().__init__()
        self.reduce = reduce

    def forward(self, queries: Features | Tensor, items: Features | Tensor) -> Tensor:
        """Similarities `[..., Q, S]` of each query and each item.

        Raises:
            VlfewError: it compares feature maps, and got embeddings.
        """
        return self.matrix(*(Features(x) if isinstance(x, Tensor) else x for x in (queries, items)))

    @abstractmethod
    def pairwise(self, a: Features, b: Features) -> Tensor:
        """Similarity of `a[m]` and `b[m]` for each of M pairs: `[M]`."""

    @abstractmethod
    def matrix(self, queries: Features, items: Features) -> Tensor:
        """Similarities of Q queries and S items: `[..., Q, S]`. Leading dimensions are a batch of episodes."""
