"""Batches of balanced pairs: half of one class, half of two."""

from __future__ import annotations

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import Pool, in_turn, some_of


class PairSampler:
    """Draws M pairs; each brings its two images, so that a batch is 2 M images.

    The two of a same pair are different images, wherever their class has two; see `Pool.beside`. A
    image may be in several pairs. The first images are `0..M-1` of the batch and the second ones
    `M..2M-1`; same and different pairs take turns.

    Args:
        data: the data set.
        split: to draw from.
        pairs_per_batch: M, even.
        groups_per_batch: with a number G, the pairs come from G groups, and those of different classes from one.
        distinct_sources: the two of a pair come from different sources (drawers), where they can.
        extra_text_negatives: how many further classes give their words to the batch.
        min_images_per_class: classes with fewer are never drawn.
        seed: of all draws.

    Raises:
        DataError: fewer than two classes; no groups, or too few of them with two classes; more groups
            than pairs of either kind.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        pairs_per_batch: int,
        groups_per_batch: int | None = None,
        distinct_sources: bool = True,
        extra_text_negatives: int = 0,
        min_images_per_class: int = 1,
        seed: int = 0,
    ) -> None:
        self.pairs_per_batch, self.groups_per_batch, self.seed = pairs_per_batch, groups_per_batch, seed
        self._pool = Pool(
            data,
            split,
            wanted=2,
            key="sampling.pairs_per_batch",
            distinct_sources=distinct_sources,
            extra_text_negatives=extra_text_negatives,
            min_images_per_class=min_images_per_class,
        )
        self._sets = [self._pool.classes]
        if groups_per_batch is not None:
            self._sets = self._pool.large_groups(groups_per_batch, 2, "sampling.pairs_per_batch")
        if groups_per_batch is not None and pairs_per_batch // 2 < groups_per_batch:
            raise DataError(
                f"sampling.pairs_per_batch={pairs_per_batch} is {pairs_per_batch // 2} of one class and {pairs_per_batch // 2} of two, and "
                f"sampling.groups_per_batch={groups_per_batch} wants one of each from every group; set sampling.pairs_per_batch={2 * groups_per_batch} "
                "or more, or fewer groups"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        rng, pool = generator_at(self.seed, "pairs", number), self._pool
        sets = some_of(rng, self._sets, self.groups_per_batch)
        half = self.pairs_per_batch // 2
        first: list[int] = []
        second: list[int] = []
        # Of each group as many as of the others, but for what does not divide.
        for classes, share in zip(sets, _shares(half, len(sets)), strict=True):
            alike, apart = in_turn(rng, classes, share), in_turn(rng, classes, share)
            for same, one in zip(alike, apart, strict=True):
                other = int(rng.choice(classes[classes != one]))
                for a, b in ((same, same), (one, other)):
                    first.append(pool.image(rng, a))
                    second.append(pool.beside(rng, first[-1], b))
        place = torch.arange(self.pairs_per_batch)
        return pool.batch(rng, np.array(first + second), pairs=(place, place + self.pairs_per_batch))


def _shares(count: int, parts: int) -> list[int]:
    """`count` in `parts` that differ by one at most."""
    return [len(part) for part in np.array_split(np.arange(count), parts)]
