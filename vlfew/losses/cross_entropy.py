"""Classification over the training classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.checks import check_range
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


class CrossEntropyLoss(Loss):
    """Softmax cross entropy of a linear classifier on the embedding; the classifier is not saved with the model.

    Args:
        context: gives D and C.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016, section 7).

    Raises:
        ConfigError: label_smoothing not from 0 to 1.
    """

    needs_classes = True

    def __init__(self, context: LossContext, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_range("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing
        self.linear = nn.Linear(context.feature_spec.dim, context.classes)

    def forward(self, batch: EncodedBatch) -> Tensor:
        logits = self.linear(batch.image.embedding)
        return F.cross_entropy(logits, batch.require_target(), label_smoothing=self.label_smoothing)
