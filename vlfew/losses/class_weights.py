"""A vector for each training class, and the softmax losses that measure angles to them."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.errors import DataError
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


def target_of(batch: EncodedBatch) -> Tensor:
    """`[B]` the training class of each image, 0 to C-1.

    Raises:
        DataError: the batch is of pairs whose classes are not known.
    """
    if batch.target is None:
        raise DataError("a classifier needs the class of each image, and this batch has none")
    return batch.target


class AngularSoftmax(Loss):
    """Cross entropy over `length * cos(theta)`, where an image's own class must earn more.

    theta is the angle between an embedding and the vector of a class; neither has a bias. What the
    losses of this kind differ in is `with_margin`, and which lengths they keep. At use time the
    vectors are dropped.

    Args:
        trained: gives D and C.
    """

    needs_classes = True

    def __init__(self, trained: LossContext) -> None:
        super().__init__()
        # Of length 1, more or less.
        self.weight = nn.Parameter(
            torch.randn(trained.classes, trained.feature_spec.dim) / trained.feature_spec.dim**0.5
        )

    @abstractmethod
    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        """What takes the place of the cosine to an image's own class, `[B, 1]` to `[B, 1]`."""

    @abstractmethod
    def length(self, x: Tensor) -> Tensor | float:
        """What the cosines `[B, C]` of `x [B, D]` are multiplied by."""

    def forward(self, batch: EncodedBatch) -> Tensor:
        x, target = batch.image.embedding, target_of(batch)
        cosine = F.normalize(x, dim=1) @ F.normalize(self.weight, dim=1).T
        own = self.with_margin(cosine.gather(1, target[:, None]), batch.progress)
        return F.cross_entropy(cosine.scatter(1, target[:, None], own) * self.length(x), target)
