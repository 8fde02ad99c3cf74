"""Batches of one-shot episodes: which of N images is of the query's class?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import ClassPool, draw_classes, draw_groups


class EpisodicSampler:
    """Draws E one-shot episodes: a query, and a support set of one image of each of N classes, its own among them.

    The queries are images `0..E-1` of the batch; the support set of episode e is `E + e N .. E + e N + N - 1`, the
    match first. The pairs are each query with each image of its support set: E of them same, E (N - 1) different.

    Args:
        data: the data set.
        split: to draw from.
        episodes_per_batch: E.
        ways: N, at least 2.
        groups_per_batch: number of groups that the episodes come from in turn; the classes of an episode are of one.
        seed: of all draws.
        pool_options: of `ClassPool`.

    Raises:
        DataError: fewer than N classes; no groups, or too few with N classes; more groups than episodes.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        episodes_per_batch: int,
        ways: int,
        groups_per_batch: int | None = None,
        seed: int = 0,
        **pool_options: Any,
    ) -> None:
        self.episodes_per_batch, self.ways, self.groups_per_batch = episodes_per_batch, ways, groups_per_batch
        self.seed = seed
        self._pool = ClassPool(data, split, min_classes=ways, key="sampling.ways", **pool_options)
        self._sets = [self._pool.classes]
        if groups_per_batch is not None:
            self._sets = self._pool.large_groups(groups_per_batch, ways, "sampling.ways")
            if episodes_per_batch < groups_per_batch:
                raise DataError(
                    f"sampling.episodes_per_batch={episodes_per_batch} cannot come from sampling.groups_per_batch="
                    f"{groups_per_batch} with at least one episode each; "
                    f"set sampling.episodes_per_batch={groups_per_batch} or more, or fewer groups"
                )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call."""
        rng, pool = generator_at(self.seed, "tasks", number), self._pool
        sets = draw_groups(rng, self._sets, self.groups_per_batch)
        queries: list[int] = []
        supports: list[int] = []
        for episode in range(self.episodes_per_batch):
            classes = draw_classes(rng, sets[episode % len(sets)], self.ways)
            queries.append(pool.draw_image(rng, classes[0]))
            supports += [pool.draw_partner(rng, queries[-1], c) for c in classes]
        i = torch.arange(self.episodes_per_batch).repeat_interleave(self.ways)
        j = self.episodes_per_batch + torch.arange(len(supports))
        return pool.batch(rng, np.array(queries + supports), pairs=(i, j))
