"""Euclidean distance as a similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.core.features import Features
from vlfew.similarities.base import Similarity


class Euclidean(Similarity):
    """Negative squared Euclidean distance between two embeddings."""

    def pairwise(self, a: Features, b: Features) -> Tensor:
        return -(a.embedding - b.embedding).square().sum(-1)

    def matrix(self, queries: Features, items: Features) -> Tensor:
        # |q - s|^2 = |q|^2 + |s|^2 - 2 q.s, exact to the rounding of the squared lengths.
        q, s = queries.embedding, items.embedding
        squares: Tensor = torch.linalg.vector_norm(s, dim=-1).square().unsqueeze(-1)
        squares = squares + torch.linalg.vector_norm(q, dim=-1).square().unsqueeze(-2)
        squares = squares - 2 * (s @ q.mT)
        return squares.clamp(min=0).neg().mT
