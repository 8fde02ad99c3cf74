"""Base of the softmax losses with an angular margin."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.checks import check_positive
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


class MarginSoftmaxLoss(Loss):
    """Cross entropy over `scale * cos(theta)`, with a margin for an image's own class.

    theta is the angle between an embedding and the weight vector of a class, without bias. The weight vectors are not
    saved with the model.

    Args:
        context: gives D and C.
    """

    needs_classes = True

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        dim = context.feature_spec.dim
        self.weight = nn.Parameter(torch.randn(context.classes, dim) / dim**0.5)

    @abstractmethod
    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        """What replaces the cosine to an image's own class, `[B, 1]` to `[B, 1]`."""

    @abstractmethod
    def scale(self, x: Tensor) -> Tensor | float:
        """Factor of the cosines `[B, C]` of embeddings `x [B, D]`."""

    def forward(self, batch: EncodedBatch) -> Tensor:
        x, target = batch.image.embedding, batch.require_target()
        cosine = F.normalize(x, dim=1) @ F.normalize(self.weight, dim=1).T
        own = self.with_margin(cosine.gather(1, target[:, None]), batch.progress)
        return F.cross_entropy(cosine.scatter(1, target[:, None], own) * self.scale(x), target)


class AdditiveMarginLoss(MarginSoftmaxLoss):
    """Softmax over `s cos(theta)`: embeddings and class vectors are normalized.

    Args:
        context: gives D and C.
        s: factor of the cosines.

    Raises:
        ConfigError: s not above 0.
    """

    def __init__(self, context: LossContext, s: float) -> None:
        super().__init__(context)
        check_positive("s", s)
        self.s = s

    def scale(self, x: Tensor) -> float:
        return self.s
