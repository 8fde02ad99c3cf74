"""Batches of one-shot episodes: which of N images is of the query's class?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import ClassSampler, draw_classes


class EpisodicSampler(ClassSampler):
    """Draws E one-shot episodes: a query, and a support set of one image of each of N classes, its own among them.

    The queries are images `0..E-1` of the batch; the support set of episode e is `E + e N .. E + e N + N - 1`, the
    match first. The pairs are each query with each image of its support set: E of them same, E (N - 1) different.
    Where there are groups, the episodes come from them in turn, and the classes of an episode are of one.

    Args:
        data: the data set.
        split: to draw from.
        episodes_per_batch: E.
        ways: N, at least 2.
        options: of `ClassSampler`.

    Raises:
        DataError: fewer than N classes; no groups, or too few with N classes; more groups than episodes.
    """

    def __init__(
        self, data: LabeledImages, split: str, *, episodes_per_batch: int, ways: int, **options: Any
    ) -> None:
        super().__init__(data, split, min_classes=ways, key="sampling.ways", **options)
        self.require_large_groups(ways)
        self.episodes_per_batch, self.ways = episodes_per_batch, ways
        if episodes_per_batch < (groups := self.groups_per_batch or 0):
            raise DataError(
                f"sampling.episodes_per_batch={episodes_per_batch} cannot come from sampling.groups_per_batch="
                f"{groups} with at least one episode each; set sampling.episodes_per_batch={groups} or more, "
                "or fewer groups"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call."""
        rng = generator_at(self.seed, "tasks", number)
        groups = self.draw_groups(rng)
        queries: list[int] = []
        supports: list[int] = []
        for episode in range(self.episodes_per_batch):
            classes = draw_classes(rng, groups[episode % len(groups)], self.ways)
            queries.append(self.draw_image(rng, classes[0]))
            supports += [self.draw_partner(rng, queries[-1], c) for c in classes]
        i = torch.arange(self.episodes_per_batch).repeat_interleave(self.ways)
        j = self.episodes_per_batch + torch.arange(len(supports))
        return self.with_texts(rng, np.array(queries + supports), pairs=(i, j))
