"""Prototypical loss over the classes of a batch (Snell, Swersky and Zemel 2017)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.core.checks import check_one_of
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.temperature import Scale

Metric = Literal["euclidean", "cosine"]


class Prototypical(Loss):
    """Each image is a query in turn; its own class's prototype is made without it.

    Leave-one-out makes every image of the batch both support and query, where Snell et al. part
    them; eq. 2 otherwise. An image alone in its class is no query, since its class would be empty.

    Args:
        metric: `euclidean` (negative squared distance, as in the paper) or `cosine` of unit vectors.
        temperature: the metric is divided by it.
        learned: train the temperature.

    Raises:
        ConfigError: no such metric.
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
        self.metric, self.scale = metric, Scale(temperature, learned)

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = batch.image.embedding
        if self.metric == "cosine":
            x = F.normalize(x, dim=1)
        classes, label = batch.labels.unique(return_inverse=True)
        member = F.one_hot(label, len(classes)).to(x.dtype)
        total, count = member.T @ x, member.sum(0)
        others = count[label] - 1
        logits = self._score(x, total / count[:, None])
        own_prototype = (total[label] - x) / others.clamp(min=1)[:, None]
        own = self._score(x[:, None], own_prototype[:, None])[:, 0, 0]
        logits = torch.where(member.bool(), own[:, None], logits)
        loss = F.cross_entropy(logits * self.scale(), label, reduction="none")
        valid = (others > 0).to(loss.dtype)
        return (loss * valid).sum() / valid.sum().clamp(min=1)

    def _score(self, x: Tensor, prototypes: Tensor) -> Tensor:
        """`x [..., B, D]` against `prototypes [..., N, D]` to `[..., B, N]`."""
        if self.metric == "cosine":
            return x @ F.normalize(prototypes, dim=-1).transpose(-1, -2)
        squared = x.pow(2).sum(-1, keepdim=True) + prototypes.pow(2).sum(-1).unsqueeze(-2)
        return -(squared - 2 * x @ prototypes.transpose(-1, -2))
