"""The two losses of S3Net (Xue et al. 2022), which look at feature maps beside embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch, balanced_mean
from vlfew.losses.class_weights import target_of
from vlfew.losses.contrastive import MarginOfPairs
from vlfew.losses.distance import pair_distance


def center_vectors(maps: Tensor) -> Tensor:
    """The vectors in the middle of `maps [B, C, H, W]`: `[B, C]`.

    Where a side is even there are two middles, and their mean is taken.
    """
    height, width = maps.shape[2:]
    middle = maps[:, :, (height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
    return middle.mean((2, 3))


class WeightedContrastive(MarginOfPairs):
    """`same (1 - w) D + (1 - same) w max(0, m - D)`, balanced between same and different pairs.

    w is the cosine of the two maps' center vectors, clamped to [0, 1]: same pairs count where the
    middles of the images look different, different ones where they look alike. The hinge is not
    squared. w is a weight and gets no gradient: through it the loss could fall to 0, at w = 1 for same
    pairs and 0 for different ones, with every distance as it was.
    """

    needs_map = True

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = batch.image.embedding
        if self.normalize:
            x = F.normalize(x, dim=1)
        center = F.normalize(center_vectors(batch.image.need("map", "weighted_contrastive").detach()), dim=1)
        i, j, same = batch.pairs
        w = (center[i] * center[j]).sum(1).clamp(0, 1)
        d = pair_distance(x[i], x[j], self.distance)
        return balanced_mean(same * (1 - w) * d + ~same * w * (self.margin - d).clamp(min=0), same)


class AdaptiveCrossEntropy(Loss):
    """Cross entropy of `softmax(alpha y1 + beta y2)`, two branches whose shares are learned.

    In the paper the branches are the two networks that the images of a pair go through. ShareWeights here
    share their weights: both images pass one network, and each alone has a class. So the branches are,
    and this reading is ours, two views of one image: y1 are the logits of a linear classifier on the
    embedding and y2 those of one on the map, averaged over positions. alpha and beta start at 0.5. All
    is dropped at the end.

    An embedding that is the averaged map itself would make the two one. One that is projected from it
    (`embedding_dim`) is another vector, but says nothing that the map does not.

    Args:
        trained: gives D, C and the size of the map.

    Raises:
        VlfewError: the image stream gives no map.
        ModelError: it gives the map averaged as its embedding.
    """

    needs_map = True
    needs_classes = True

    def __init__(self, trained: LossContext) -> None:
        super().__init__()
        channels, *_ = trained.feature_spec.require_map("adaptive_cross_entropy")
        if trained.feature_spec.averaged:
            raise ModelError(
                "adaptive_cross_entropy weighs the embedding against the averaged map, which in this image stream "
                "are one vector; take a backbone that keeps positions apart, such as conv4 with head: flatten, "
                "or cross_entropy"
            )
        self.of_embedding = nn.Linear(trained.feature_spec.dim, trained.classes)
        self.of_map = nn.Linear(channels, trained.classes)
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.5))

    def forward(self, batch: EncodedBatch) -> Tensor:
        pooled = batch.image.need("map", "adaptive_cross_entropy").mean((2, 3))
        logits = self.alpha * self.of_embedding(batch.image.embedding) + self.beta * self.of_map(pooled)
        return F.cross_entropy(logits, target_of(batch))
