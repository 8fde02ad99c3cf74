"""Classification at every position of the map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.class_weights import target_of


def position_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over images and positions.

    Args:
        logits: `[..., m, L]` at each of m positions.
        target: `[...]` class of each image, 0 to L-1.
    """
    at_each = target.unsqueeze(-1).expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, -2), at_each.flatten())


class MapCrossEntropy(Loss):
    """A dense layer tells the training class at every position of every image of the batch.

    It asks each part of the image for the class, so that maps, not their means alone, are learned.

    Args:
        trained: the space and the number of training classes.

    Raises:
        VlfewError: the model gives no maps.
    """

    needs_map = True
    needs_embedding = False
    needs_classes = True

    def __init__(self, trained: LossContext) -> None:
        super().__init__()
        self.dense = nn.Linear(trained.feature_spec.require_map("map_cross_entropy")[0], trained.classes)

    def forward(self, batch: EncodedBatch) -> Tensor:
        maps = batch.image.need("map", "map_cross_entropy")
        return position_cross_entropy(self.dense(maps.flatten(2).mT), target_of(batch))
