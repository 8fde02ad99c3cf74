"""Adaptive cross entropy of S3Net (Xue et al. 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


class AdaptiveCrossEntropyLoss(Loss):
    """Cross entropy of `softmax(alpha y1 + beta y2)`, two branches with learned shares (Xue et al. 2022).

    In the paper the branches are the two networks of a pair. Here both images share one network and have a class
    each; so, in our reading, the branches are a linear classifier on the embedding (y1) and one on the map averaged
    over positions (y2). alpha and beta start at 0.5. None of it is saved with the model.

    If the embedding is the averaged map itself, both branches would be the same. A projection of it
    (`embedding_dim`) is another vector, but holds nothing that the map does not.

    Args:
        context: gives D, C and the size of the map.

    Raises:
        VlfewError: the image encoder provides no map.
        ModelError: its embedding is the averaged map.
    """

    needs_map = True
    needs_classes = True

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        channels, *_ = context.feature_spec.require_map("adaptive_cross_entropy")
        if context.feature_spec.averaged:
            raise ModelError(
                "adaptive_cross_entropy compares the embedding with the averaged map, which are the same vector in "
                "this image encoder; choose a backbone that keeps positions, such as conv4 with head: flatten, "
                "or use cross_entropy"
            )
        self.of_embedding = nn.Linear(context.feature_spec.dim, context.classes)
        self.of_map = nn.Linear(channels, context.classes)
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.5))

    def forward(self, batch: EncodedBatch) -> Tensor:
        pooled = batch.image.require("map", "adaptive_cross_entropy").mean((2, 3))
        logits = self.alpha * self.of_embedding(batch.image.embedding) + self.beta * self.of_map(pooled)
        return F.cross_entropy(logits, batch.require_target())
