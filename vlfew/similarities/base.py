"""A class is as alike as its items are: scores from a similarity between two embeddings."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import Support
from vlfew.core.features import Features, FeatureSpec

Reduce = Literal["mean", "max"]
EPS = 1e-12
"""Length below which a vector counts as zero, as in `torch.nn.functional.normalize`."""


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of `a [M, D]` and `b [M, D]`, row by row: `[M]`."""
    return (normalize(a, dim=-1) * normalize(b, dim=-1)).sum(-1)


def negative_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """`-|a - b|^2` of `a [M, D]` and `b [M, D]`, row by row: `[M]`."""
    return -(a - b).square().sum(-1)


def cosine_matrix(queries: Tensor, items: Tensor) -> Tensor:
    """Cosines between `[..., Q, D]` and `[..., S, D]`: `[..., Q, S]`."""
    # Dividing the few products by the queries' lengths is cheaper than normalizing the queries, and
    # with few items the product is faster this way round.
    products: Tensor = normalize(items, dim=-1) @ queries.mT
    products = products / torch.linalg.vector_norm(queries, dim=-1).clamp(min=EPS).unsqueeze(-2)
    return products.mT


def negative_squared_distance_matrix(queries: Tensor, items: Tensor) -> Tensor:
    """`-|q - s|^2` between `[..., Q, D]` and `[..., S, D]`: `[..., Q, S]`.

    By `2 q.s - |q|^2 - |s|^2`, exact to the rounding of the squared lengths.
    """
    squares: Tensor = torch.linalg.vector_norm(items, dim=-1).square().unsqueeze(-1)
    squares = squares + torch.linalg.vector_norm(queries, dim=-1).square().unsqueeze(-2)
    squares = squares - 2 * (items @ queries.mT)
    return squares.clamp(min=0).neg().mT


class Similarity(FewShotMethod):
    """Scores a class by the similarities of a query to the class's items.

    Args:
        feature_spec: gives D, the embedding width.
        reduce: of several items a class: `mean` of their scores, or `max`, the nearest neighbor.
    """

    def __init__(self, feature_spec: FeatureSpec, *, reduce: Reduce = "mean") -> None:
        super().__init__()
        self.reduce = reduce

    def pair(self, a: Features, b: Features) -> Tensor:
        return self.rows(a.embedding, b.embedding)

    @abstractmethod
    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity of `a [M, D]` and `b [M, D]`, row by row: `[M]`."""

    @abstractmethod
    def matrix(self, queries: Tensor, items: Tensor) -> Tensor:
        """Similarities between `[..., Q, D]` and `[..., S, D]`: `[..., Q, S]`."""

    def fit(self, support: Support) -> Self:
        support.check_items(type(self).__name__)
        self._support = support
        return self

    def score(self, queries: Features) -> Tensor:
        scores = self.matrix(queries.embedding, self._support.features.embedding)
        if self._support.one_item_each():
            return scores
        out = scores.new_zeros(*scores.shape[:-1], self._support.n_classes)
        return out.scatter_reduce(
            -1,
            self._support.class_id.expand_as(scores),
            scores,
            reduce="mean" if self.reduce == "mean" else "amax",
            include_self=False,
        )


class Cosine(Similarity):
    """Cosine of the angle between two embeddings, in `[-1, 1]`."""

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        return cosine(a, b)

    def matrix(self, queries: Tensor, items: Tensor) -> Tensor:
        return cosine_matrix(queries, items)


class Euclidean(Similarity):
    """Negative squared Euclidean distance between two embeddings."""

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        return negative_squared_distance(a, b)

    def matrix(self, queries: Tensor, items: Tensor) -> Tensor:
        return negative_squared_distance_matrix(queries, items)
