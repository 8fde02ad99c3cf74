"""Transductive inference with cross attention (CAN, Hou et al. 2019)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from vlfew.classifiers.similarity_classifier import SimilarityClassifier
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_at_least, check_positive, check_range
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.cross_attention import CrossAttention, LocalFeatures


class TransductiveCrossAttention(SimilarityClassifier):
    """Cross attention whose classes absorb their most confident queries (section 4.3 of the paper).

    All queries of an episode are scored. The most confident share of them is added to the predicted classes, whose
    maps become the mean over support images and added queries; the next round does the same with twice the share.

    Args:
        feature_spec: gives m = H * W.
        similarity: the trained cross attention; an untrained one where not given.
        share: of an episode's queries that each round adds, in `(0, 1]`; the paper adds 35 of 75.
        rounds: number of rounds.

    Raises:
        ConfigError: share outside `(0, 1]`, or fewer than 1 round.
    """

    transductive = True
    needs_map = needs_images = learned = True
    required_similarity = "cross_attention"
    similarity: CrossAttention

    def __init__(
        self,
        feature_spec: FeatureSpec,
        similarity: CrossAttention | None = None,
        *,
        share: float = 35 / 75,
        rounds: int = 2,
    ) -> None:
        super().__init__(similarity or CrossAttention(feature_spec))
        check_positive("cross_attention_transductive's share", share)
        check_range("cross_attention_transductive's share", share, 0, 1)
        check_at_least("cross_attention_transductive's rounds", rounds)
        self.share, self.rounds = share, rounds

    def fit(self, support: SupportSet) -> Self:
        self._counts = support.counts()
        return super().fit(support)

    def logits(self, queries: Features) -> Tensor:
        class_maps = self._support.features.require("map", "cross_attention_transductive")
        maps = queries.require("map", "cross_attention_transductive")
        scores = self._episode_scores(*(m.reshape(-1, *m.shape[-4:]) for m in (class_maps, maps)))
        return scores.view(*class_maps.shape[:-4], *scores.shape[1:])

    def _episode_scores(self, class_maps: Tensor, maps: Tensor) -> Tensor:
        """Scores `[E, Q, N]` of `class_maps [E, N, C, H, W]` and query `maps [E, Q, C, H, W]`."""
        attention = self.similarity
        classes = attention.local(class_maps)
        scores = attention.class_scores(classes, maps)
        counts = self._counts[:, None, None].to(scores.dtype)
        for number in range(1, self.rounds + 1):
            confidence, predicted = scores.max(-1)
            added = min(maps.shape[1], number * max(1, round(self.share * maps.shape[1])))
            chosen = torch.zeros_like(confidence).scatter_(-1, confidence.topk(added).indices, 1.0)
            member = torch.zeros_like(scores).scatter_(-1, predicted.unsqueeze(-1), 1.0) * chosen.unsqueeze(
                -1
            )
            total = classes.vectors * counts + self._class_sums(member, maps)
            means = total / (counts + member.sum(1)[..., None, None])
            scores = attention.class_scores(LocalFeatures.of(means), maps)
        return scores

    def _class_sums(self, member: Tensor, maps: Tensor) -> Tensor:
        """Sums of `maps [E, Q, C, H, W]` over the queries of each class, `member [E, Q, N]`: `[E, N, m, C]`."""
        rows = self.similarity.chunk_size(0, self.similarity.vectors(maps[:, :1]))
        sums: Tensor = sum(
            part.mT @ self.similarity.vectors(chunk).flatten(-2)
            for part, chunk in zip(member.split(rows, dim=1), maps.split(rows, dim=1), strict=True)
        )
        return sums.unflatten(-1, (maps.shape[-2] * maps.shape[-1], maps.shape[-3]))
