"""Global classification loss of the Cross Attention Network (Hou et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.losses.base import LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.episodes import EpisodeLoss, EpisodeMaps
from vlfew.losses.map_cross_entropy import position_cross_entropy
from vlfew.similarities.cross_attention import CrossAttention


class CrossAttentionClassesLoss(EpisodeLoss):
    """Each position of a query map is classified among all training classes (Hou et al. 2019, L2, eq. 7).

    By a linear layer over the query map as attended given its own class.

    Args:
        context: gives C and the size of the map.
        options: as in `EpisodeLoss`.

    Raises:
        VlfewError: the model provides no map.
    """

    needs_classes = True

    def __init__(self, context: LossContext, **options: int) -> None:
        super().__init__(**options)
        channels, *_ = context.feature_spec.require_map("cross_attention_classes")
        self.dense = nn.Linear(channels, context.classes)

    def over_episodes(self, batch: EncodedBatch, attention: CrossAttention, maps: EpisodeMaps) -> Tensor:
        classes, queries, index = maps
        weights = attention.query_weights(classes, queries)  # [E, N * Q, N, m]
        own = maps.own_class()
        weight = weights[:, torch.arange(len(own), device=own.device), own]
        logits = self.dense(queries.vectors * weight.unsqueeze(-1))
        return position_cross_entropy(logits, batch.require_target()[index])
