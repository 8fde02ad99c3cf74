"""Batches of one-shot tasks: which of N images is of the query's class?"""

from __future__ import annotations

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import Pool, in_turn, some_of


class EpisodicSampler:
    """Draws T one-shot tasks: a query, and a support of one image each of N classes, its own among them.

    The queries are images `0..T-1` of the batch; the supports of task t are
    `T + t N .. T + t N + N - 1`, the match first. The pairs are each query with each of its supports:
    T of them the same, T (N - 1) different.

    Args:
        data: the data set.
        split: to draw from.
        episodes_per_batch: T.
        ways: N, at least 2.
        groups_per_batch: with a number G, the tasks come from G groups in turn, and the classes of a task from one.
        distinct_sources: the supports come from other sources (drawers) than the query, where they can.
        extra_text_negatives: how many further classes give their words to the batch.
        min_images_per_class: classes with fewer are never drawn.
        seed: of all draws.

    Raises:
        DataError: fewer than N classes; no groups, or too few of them with N classes; more groups than
            tasks.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        episodes_per_batch: int,
        ways: int,
        groups_per_batch: int | None = None,
        distinct_sources: bool = True,
        extra_text_negatives: int = 0,
        min_images_per_class: int = 1,
        seed: int = 0,
    ) -> None:
        self.episodes_per_batch, self.ways, self.groups_per_batch, self.seed = (
            episodes_per_batch,
            ways,
            groups_per_batch,
            seed,
        )
        self._pool = Pool(
            data,
            split,
            wanted=ways,
            key="sampling.ways",
            distinct_sources=distinct_sources,
            extra_text_negatives=extra_text_negatives,
            min_images_per_class=min_images_per_class,
        )
        self._sets = [self._pool.classes]
        if groups_per_batch is not None:
            self._sets = self._pool.large_groups(groups_per_batch, ways, "sampling.ways")
        if groups_per_batch is not None and episodes_per_batch < groups_per_batch:
            raise DataError(
                f"sampling.episodes_per_batch={episodes_per_batch} cannot come from sampling.groups_per_batch={groups_per_batch}, one task at least from each; "
                f"set sampling.episodes_per_batch={groups_per_batch} or more, or fewer groups"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        rng, pool = generator_at(self.seed, "tasks", number), self._pool
        sets = some_of(rng, self._sets, self.groups_per_batch)
        queries: list[int] = []
        supports: list[int] = []
        for task in range(self.episodes_per_batch):
            classes = in_turn(rng, sets[task % len(sets)], self.ways)
            queries.append(pool.image(rng, classes[0]))
            supports += [pool.beside(rng, queries[-1], c) for c in classes]
        i = torch.arange(self.episodes_per_batch).repeat_interleave(self.ways)
        j = self.episodes_per_batch + torch.arange(len(supports))
        return pool.batch(rng, np.array(queries + supports), pairs=(i, j))
