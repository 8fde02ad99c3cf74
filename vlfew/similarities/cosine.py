"""Cosine similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.features import Features
from vlfew.similarities.base import EPS, Similarity

CLIP_TEMPERATURE = 0.01
"""The temperature that CLIP's training ended at (Radford et al. 2021, section 2.5)."""


def cosine_matrix(queries: Tensor, items: Tensor) -> Tensor:
    """Cosines of `queries [..., Q, D]` and `items [..., S, D]`: `[..., Q, S]`."""
    # Dividing the products by the lengths of the queries is cheaper than normalizing the queries, and with few
    # items the product is faster this way round.
    products: Tensor = normalize(items, dim=-1) @ queries.mT
    products = products / torch.linalg.vector_norm(queries, dim=-1).clamp(min=EPS).unsqueeze(-2)
    return products.mT


class Cosine(Similarity):
    """Cosine of the angle between two embeddings, in `[-1, 1]`."""

    softmax_temperature = CLIP_TEMPERATURE

    def pairwise(self, a: Features, b: Features) -> Tensor:
        return (normalize(a.embedding, dim=-1) * normalize(b.embedding, dim=-1)).sum(-1)

    def matrix(self, queries: Features, items: Features) -> Tensor:
        return cosine_matrix(queries.embedding, items.embedding)
