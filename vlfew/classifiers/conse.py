"""ConSE: an image as a convex combination of the texts of the classes that it is taken for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def conse_embedding(logits: Tensor, texts: Tensor, top: int) -> Tensor:
    """Images in the space of texts: `sum_t p_t s_t / sum_t p_t` over the T most likely of K known classes.

    Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, ICLR 2014, equation 4.

    Args:
        logits: `[S, K]` of a classifier over the known classes.
        texts: `[K, D]` embeddings of their names.
        top: T, at most K.

    Returns:
        `[S, D]`.
    """
    probability, known = logits.softmax(1).topk(min(top, logits.shape[1]), dim=1)
    shares = torch.zeros_like(logits).scatter(1, known, probability / probability.sum(1, keepdim=True))
    return shares @ texts


def mixed_embedding(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Embeddings `[S, D1 + D2]` whose cosine is the mean of both ones', the second with this weight, 0 to 1."""
    parts = (1 - weight) ** 0.5 * normalize(first, dim=1), weight**0.5 * normalize(second, dim=1)
    return torch.cat(parts, dim=1)
