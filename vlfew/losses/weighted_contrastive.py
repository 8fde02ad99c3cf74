"""Weighted contrastive loss of S3Net (Xue et al. 2022)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.batch import EncodedBatch, balanced_mean
from vlfew.losses.contrastive import PairMarginLoss
from vlfew.losses.distance import pair_distance


def center_vectors(maps: Tensor) -> Tensor:
    """Vectors at the center of maps, `[B, C, H, W]` to `[B, C]`; the mean of the two middle ones on an even side."""
    height, width = maps.shape[2:]
    middle = maps[:, :, (height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
    return middle.mean((2, 3))


class WeightedContrastiveLoss(PairMarginLoss):
    """`same (1 - w) D + (1 - same) w max(0, m - D)`, balanced between same and different pairs (Xue et al. 2022).

    w is the cosine of the two maps' center vectors, clamped to [0, 1]: same pairs count where the centers of the
    images differ, different pairs where they are alike. The hinge is not squared. w gets no gradient: otherwise the
    loss could fall to 0 by w alone, without any change of a distance. Options as in the contrastive loss.
    """

    needs_map = True

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = batch.image.embedding
        if self.normalize:
            x = F.normalize(x, dim=1)
        maps = batch.image.require("map", "weighted_contrastive").detach()
        center = F.normalize(center_vectors(maps), dim=1)
        i, j, same = batch.pairs
        w = (center[i] * center[j]).sum(1).clamp(0, 1)
        d = pair_distance(x[i], x[j], self.distance)
        return balanced_mean(same * (1 - w) * d + ~same * w * (self.margin - d).clamp(min=0), same)
