"""Classification at every position of the feature map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


def position_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy, averaged over images and positions.

    Args:
        logits: `[..., m, L]` at m positions.
        target: `[...]` class of each image, 0 to L - 1.
    """
    targets = target.unsqueeze(-1).expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


class MapCrossEntropyLoss(Loss):
    """A linear layer predicts the training class at every position of every image's map.

    So that the map itself is trained and not only its mean.

    Args:
        context: gives C and the size of the map.

    Raises:
        VlfewError: the model provides no map.
    """

    needs_map = True
    needs_embedding = False
    needs_classes = True

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        channels, *_ = context.feature_spec.require_map("map_cross_entropy")
        self.dense = nn.Linear(channels, context.classes)

    def forward(self, batch: EncodedBatch) -> Tensor:
        maps = batch.image.require("map", "map_cross_entropy")
        return position_cross_entropy(self.dense(maps.flatten(2).mT), batch.require_target())
