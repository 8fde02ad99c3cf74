"""Koch's learned similarity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.core.features import FeatureSpec
from vlfew.similarities.base import Reduce, Similarity


class WeightedL1(Similarity):
    """Koch, Zemel, Salakhutdinov 2015, section 3.1: `p = sigmoid(sum_j alpha_j |a_j - b_j| + b)`.

    Scores are the logit, so that pairs are trained with a cross entropy on logits and equal
    probabilities near 1 still have an order.

    Args:
        feature_spec: gives D, the embedding width; alpha is the weight of a linear layer `D -> 1`.
        reduce: of several items a class: `mean` of their logits, or `max`, the nearest neighbor.
    """

    learned = True

    def __init__(self, feature_spec: FeatureSpec, *, reduce: Reduce = "mean") -> None:
        super().__init__(feature_spec, reduce=reduce)
        self.linear = nn.Linear(feature_spec.dim, 1)

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        logits: Tensor = self.linear((a - b).abs())
        return logits.squeeze(-1)

    def matrix(self, queries: Tensor, items: Tensor) -> Tensor:
        # alpha |a - b| = sign(alpha) | |alpha| a - |alpha| b |: two L1 distances, one for each sign
        # of alpha, so the `[Q, S, D]` tensor of differences never exists.
        alpha = self.linear.weight[0]
        scores: Tensor = self.linear.bias
        for sign in (1, -1):
            keep = (sign * alpha > 0).nonzero().flatten()
            weight = sign * alpha[keep]
            scores = scores + sign * torch.cdist(queries[..., keep] * weight, items[..., keep] * weight, p=1)
        return scores
