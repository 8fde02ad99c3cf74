"""The most similar vectors of different owners, exactly, without the matrix of all similarities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROWS = 1024
"""Vectors that are compared with all others at a time, about: those of one owner stay together."""


class ClosestPair(NamedTuple):
    """Two vectors of different owners.

    Attributes:
        score: their cosine.
        first, second: their numbers.
    """

    score: float
    first: int
    second: int


def closest_pairs(vectors: Tensor, owner: Tensor, limit: int, least: float = -2.0) -> list[ClosestPair]:
    """The most similar pairs of owners, best first: of each two owners the most similar vectors.

    Args:
        vectors: `[S, D]` of unit length.
        owner: `[S]`, any numbers.
        limit: how many pairs, at most.
        least: lowest cosine.
    """
    if limit < 1 or len(vectors) < 2:
        return []
    order = owner.argsort(stable=True)
    vectors, numbers = vectors[order], owner[order].unique_consecutive(return_inverse=True)[1]
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + numbers.diff().nonzero().flatten()])
    bounds = [*starts.tolist(), len(vectors)]
    found: list[tuple[float, int, int]] = []  # score and numbers of the owners
    first = 0
    while first < len(bounds) - 1:
        last = first + 1
        while last < len(bounds) - 1 and bounds[last + 1] - bounds[first] <= ROWS:
            last += 1
        # Only columns from here on: each pair of owners is met once.
        part, rest = slice(bounds[first], bounds[last]), slice(bounds[first], None)
        scores = _best_of_owners(vectors[part] @ vectors[rest].T, numbers[rest] - first)
        scores = _best_of_owners(scores.T, numbers[part] - first).T
        scores[torch.ones_like(scores, dtype=torch.bool).tril()] = -torch.inf
        best, at = scores.flatten().topk(min(limit, scores.numel()))
        rows, columns = at // scores.shape[1] + first, at % scores.shape[1] + first
        found += [
            triple
            for triple in zip(best.tolist(), rows.tolist(), columns.tolist(), strict=True)
            if triple[0] >= least
        ]
        found = sorted(found, key=lambda triple: -triple[0])[:limit]
        if len(found) == limit:
            least = max(least, found[-1][0])
        first = last
    pairs = []
    for score, a, b in found:
        own, other = range(bounds[a], bounds[a + 1]), range(bounds[b], bounds[b + 1])
        cosines = vectors[own.start : own.stop] @ vectors[other.start : other.stop].T
        row, column = divmod(int(cosines.argmax()), len(other))
        pairs.append(ClosestPair(score, int(order[own[row]]), int(order[other[column]])))
    return pairs


def _best_of_owners(scores: Tensor, owner: Tensor) -> Tensor:
    """Scores `[R, C]` of columns to `[R, N]` of their owners `[C]`, 0 to N-1, the best column counting."""
    count = int(owner[-1]) + 1
    if count == len(owner):
        return scores
    best = scores.new_full((len(scores), count), -torch.inf)
    return best.scatter_reduce(1, owner.expand(len(scores), -1), scores, "amax")
