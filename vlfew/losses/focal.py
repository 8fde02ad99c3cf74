"""Focal loss over pairs (Lin, Goyal, Girshick, He and Dollar 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.checks import check_range
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch, balanced_mean
from vlfew.losses.logit_scale import LogitScale


class FocalLoss(Loss):
    """`-alpha_t (1 - p_t)^gamma log p_t` (Lin et al. 2017, eq. 5), balanced between same and different pairs.

    `p = sigmoid(similarity / temperature + bias)` is the probability that a pair is of one class; `p_t` is p for same
    pairs and 1 - p for different ones.

    The bias lets p be on both sides of 1/2. Without it, a *distance* d >= 0 through a sigmoid never is: `sigmoid(d)`,
    the probability of different, is at least 1/2 for every pair. `{temperature: 1, bias: -1, learned: false}` with
    `similarity: cosine` is that form: p = sigmoid(-(1 - cos)).

    Args:
        alpha: weight of same pairs, 1 - alpha that of different ones, each kind averaged by itself. (The paper
            averages neither; its alpha of 0.25 is for one right box in a thousand.)
        gamma: how little pairs count that are already clear; 0 is the cross entropy.
        temperature: at the start; 0.1 suits cosines, 1 suits Koch's weighted L1, which is a logit already.
        bias: at the start.
        learned: whether temperature and bias are trained.

    Raises:
        ConfigError: alpha not from 0 to 1, gamma below 0, temperature not above 0.
    """

    trains_similarity = True
    pairs_only = True
    supports_unshared = True

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        gamma: float = 2.0,
        temperature: float = 0.1,
        bias: float = 0.0,
        learned: bool = True,
    ) -> None:
        super().__init__()
        check_range("alpha", alpha, 0, 1)
        check_range("gamma", gamma, 0)
        self.alpha, self.gamma = alpha, gamma
        self.scale = LogitScale(temperature, learned)
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=learned)

    def logits(self, batch: EncodedBatch) -> Tensor:
        """`[M]` log odds that a pair is of one class."""
        return batch.pair_similarity("focal") * self.scale() + self.bias

    def forward(self, batch: EncodedBatch) -> Tensor:
        same = batch.pairs.same
        logit = self.logits(batch)
        toward = torch.where(same, logit, -logit)
        alpha = torch.where(same, self.alpha, 1 - self.alpha)
        # In logarithms: a power below 1 of (1 - p_t) has an infinite slope where that rounds to 0.
        loss = -alpha * (self.gamma * F.logsigmoid(-toward)).exp() * F.logsigmoid(toward)
        return balanced_mean(loss, same)
