"""Nearest-neighbor loss of the Cross Attention Network (Hou et al. 2019)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.losses.batch import EncodedBatch
from vlfew.losses.episodes import EpisodeLoss, EpisodeMaps
from vlfew.losses.map_cross_entropy import position_cross_entropy
from vlfew.similarities.cross_attention import CrossAttention


class CrossAttentionLoss(EpisodeLoss):
    """Each position of a query map is classified among the classes of its episode (Hou et al. 2019, L1, eq. 5 and 6).

    The logits are `scale * cosine` of the query's vector at the position and the attended, pooled class map. The
    query's own attention would scale that vector, which does not change its cosines.
    """

    def over_episodes(self, batch: EncodedBatch, attention: CrossAttention, maps: EpisodeMaps) -> Tensor:
        classes, queries, index = maps
        pooled = classes.weighted_sum(attention.class_weights(classes, queries)).transpose(1, 2)
        scores = attention.score_scale * queries.cosines(F.normalize(pooled, dim=-1))  # [E, N * Q, N, m]
        return position_cross_entropy(scores.mT, maps.own_class().expand_as(index))
