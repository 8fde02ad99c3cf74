"""Prototypical loss over the classes of a batch (Snell, Swersky and Zemel 2017)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.core.checks import check_one_of
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.logit_scale import LogitScale

Metric = Literal["euclidean", "cosine"]


class PrototypicalLoss(Loss):
    """Each image is a query in turn, classified by prototypes; that of its own class is computed without it.

    Eq. 2 of Snell et al. 2017, with leave-one-out instead of a split into support and query images. An image that is
    alone in its class is no query.

    Args:
        metric: `euclidean` (negative squared distance, as in the paper) or `cosine`.
        temperature: the metric is divided by it.
        learned: whether the temperature is trained.

    Raises:
        ConfigError: unknown metric.
    """

    def __init__(
        self,
        *,
        metric: Metric = "euclidean",
        temperature: float = 1.0,
        learned: bool = False,
    ) -> None:
        super().__init__()
        check_one_of("metric", metric, Metric)
        self.metric, self.scale = metric, LogitScale(temperature, learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = batch.image.embedding
        if self.metric == "cosine":
            x = F.normalize(x, dim=1)
        classes, inverse = batch.known_labels.unique(return_inverse=True)
        label = batch.on_device(inverse)  # [B], 0 to N - 1
        member = F.one_hot(label, len(classes)).to(x.dtype)  # [B, N]
        total, count = member.T @ x, member.sum(0)
        others = count[label] - 1
        logits = self._logits(x, total / count[:, None])  # [B, N]
        own_prototype = (total[label] - x) / others.clamp(min=1)[:, None]
        own = self._logits(x[:, None], own_prototype[:, None])[:, 0, 0]
        logits = torch.where(member.bool(), own[:, None], logits)
        loss = F.cross_entropy(logits * self.scale(), label, reduction="none")
        valid = (others > 0).to(loss.dtype)
        return (loss * valid).sum() / valid.sum().clamp(min=1)

    def _logits(self, x: Tensor, prototypes: Tensor) -> Tensor:
        """`x [..., B, D]` and `prototypes [..., N, D]` to `[..., B, N]`."""
        if self.metric == "cosine":
            return x @ F.normalize(prototypes, dim=-1).transpose(-1, -2)
        squared = x.pow(2).sum(-1, keepdim=True) + prototypes.pow(2).sum(-1).unsqueeze(-2)
        return -(squared - 2 * x @ prototypes.transpose(-1, -2))
