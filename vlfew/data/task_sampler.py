"""Batches of one-shot tasks: which of N pictures is of the query's class?"""

from __future__ import annotations

import numpy as np
import torch

from vlfew.counting import generator_at
from vlfew.data.batch import Batch
from vlfew.data.images import LabelledImages
from vlfew.data.pool import Pool, in_turn, some_of
from vlfew.errors import DataError


class TaskSampler:
    """Draws T one-shot tasks: a query, and a support of one picture each of N classes, its own among them.

    The queries are pictures `0..T-1` of the batch; the supports of task t are
    `T + t N .. T + t N + N - 1`, the match first. The pairs are each query with each of its supports:
    T of them the same, T (N - 1) different.

    Args:
        data: the data set.
        split: to draw from.
        tasks: T.
        ways: N, at least 2.
        groups: with a number G, the tasks come from G groups in turn, and the classes of a task from one.
        distinct_sources: the supports come from other sources (drawers) than the query, where they can.
        more_words: how many further classes give their words to the batch.
        least_pictures: classes with fewer are never drawn.
        seed: of all draws.

    Raises:
        DataError: fewer than N classes; no groups, or too few of them with N classes; more groups than
            tasks.
    """

    def __init__(
        self,
        data: LabelledImages,
        split: str,
        *,
        tasks: int,
        ways: int,
        groups: int | None = None,
        distinct_sources: bool = True,
        more_words: int = 0,
        least_pictures: int = 1,
        seed: int = 0,
    ) -> None:
        self.tasks, self.ways, self.groups, self.seed = tasks, ways, groups, seed
        self._pool = Pool(
            data,
            split,
            wanted=ways,
            key="sampling.ways",
            distinct_sources=distinct_sources,
            more_words=more_words,
            least_pictures=least_pictures,
        )
        self._sets = [self._pool.classes]
        if groups is not None:
            self._sets = self._pool.large_groups(groups, ways, "sampling.ways")
        if groups is not None and tasks < groups:
            raise DataError(
                f"sampling.tasks={tasks} cannot come from sampling.groups={groups}, one task at least from each; "
                f"set sampling.tasks={groups} or more, or fewer groups"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        rng, pool = generator_at(self.seed, "tasks", number), self._pool
        sets = some_of(rng, self._sets, self.groups)
        queries: list[int] = []
        supports: list[int] = []
        for task in range(self.tasks):
            classes = in_turn(rng, sets[task % len(sets)], self.ways)
            queries.append(pool.picture(rng, classes[0]))
            supports += [pool.beside(rng, queries[-1], c) for c in classes]
        i = torch.arange(self.tasks).repeat_interleave(self.ways)
        j = self.tasks + torch.arange(len(supports))
        return pool.batch(rng, np.array(queries + supports), pairs=(i, j))
