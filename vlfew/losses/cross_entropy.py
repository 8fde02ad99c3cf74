"""Plain classification over the training classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.checks import require_within
from vlfew.losses.class_weights import target_of
from vlfew.losses.encoded import Encoded
from vlfew.losses.term import Term, Trained


class CrossEntropy(Term):
    """Softmax cross entropy of a linear classifier on the embedding; the classifier is dropped at the end.

    Args:
        trained: gives D and C.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016,
            section 7).

    Raises:
        ConfigError: label_smoothing not from 0 to 1.
    """

    needs_classes = True

    def __init__(self, trained: Trained, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require_within("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing
        self.linear = nn.Linear(trained.space.dim, trained.classes)

    def forward(self, batch: Encoded) -> Tensor:
        logits = self.linear(batch.image.embedding)
        return F.cross_entropy(logits, target_of(batch), label_smoothing=self.label_smoothing)
