"""The learned similarity of Koch, Zemel and Salakhutdinov (2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import Reduce, Similarity


class WeightedL1(Similarity):
    """Weighted L1 distance with a bias: `sum_j alpha_j |a_j - b_j| + b`.

    Section 3.1 of the paper has the sigmoid of it, the probability that both are of one class. This is its logit, so
    that pairs are trained by a cross entropy on logits, and probabilities that round to 1 still have an order.

    Args:
        feature_spec: gives D; alpha is the weight of a linear layer `D -> 1`.
        reduce: how a class with several images is scored: by the `mean` of their similarities, or by the `max`
            (nearest neighbor).
    """

    learned = True

    def __init__(self, feature_spec: FeatureSpec, *, reduce: Reduce = "mean") -> None:
        super().__init__(feature_spec, reduce=reduce)
        self.linear = nn.Linear(feature_spec.dim, 1)

    def pairwise(self, a: Features, b: Features) -> Tensor:
        logits: Tensor = self.linear((a.embedding - b.embedding).abs())
        return logits.squeeze(-1)

    def matrix(self, queries: Features, items: Features) -> Tensor:
        # alpha |a - b| = sign(alpha) | |alpha| a - |alpha| b |: two L1 distances, one per sign of alpha, so the
        # `[Q, S, D]` tensor of differences never exists.
        alpha = self.linear.weight[0]
        scores: Tensor = self.linear.bias
        for sign in (1, -1):
            chosen = (sign * alpha > 0).nonzero().flatten()
            weight = sign * alpha[chosen]
            a, b = (x.embedding[..., chosen] * weight for x in (queries, items))
            scores = scores + sign * torch.cdist(a, b, p=1)
        return scores
