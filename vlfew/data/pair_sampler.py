"""Batches of balanced pairs: half of one class, half of two."""

from __future__ import annotations

import numpy as np
import torch

from vlfew.counting import generator_at
from vlfew.data.batch import Batch
from vlfew.data.images import LabelledImages
from vlfew.data.pool import Pool, in_turn, some_of
from vlfew.errors import DataError


class PairSampler:
    """Draws M pairs; each brings its two pictures, so that a batch is 2 M pictures.

    The two of a same pair are different pictures, wherever their class has two; see `Pool.beside`. A
    picture may be in several pairs. The first pictures are `0..M-1` of the batch and the second ones
    `M..2M-1`; same and different pairs take turns.

    Args:
        data: the data set.
        split: to draw from.
        pairs: M, even.
        groups: with a number G, the pairs come from G groups, and those of different classes from one.
        distinct_sources: the two of a pair come from different sources (drawers), where they can.
        more_words: how many further classes give their words to the batch.
        least_pictures: classes with fewer are never drawn.
        seed: of all draws.

    Raises:
        DataError: fewer than two classes; no groups, or too few of them with two classes; more groups
            than pairs of either kind.
    """

    def __init__(
        self,
        data: LabelledImages,
        split: str,
        *,
        pairs: int,
        groups: int | None = None,
        distinct_sources: bool = True,
        more_words: int = 0,
        least_pictures: int = 1,
        seed: int = 0,
    ) -> None:
        self.pairs, self.groups, self.seed = pairs, groups, seed
        self._pool = Pool(
            data,
            split,
            wanted=2,
            key="sampling.pairs",
            distinct_sources=distinct_sources,
            more_words=more_words,
            least_pictures=least_pictures,
        )
        self._sets = [self._pool.classes]
        if groups is not None:
            self._sets = self._pool.large_groups(groups, 2, "sampling.pairs")
        if groups is not None and pairs // 2 < groups:
            raise DataError(
                f"sampling.pairs={pairs} is {pairs // 2} of one class and {pairs // 2} of two, and "
                f"sampling.groups={groups} wants one of each from every group; set sampling.pairs={2 * groups} "
                "or more, or fewer groups"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        rng, pool = generator_at(self.seed, "pairs", number), self._pool
        sets = some_of(rng, self._sets, self.groups)
        half = self.pairs // 2
        first: list[int] = []
        second: list[int] = []
        # Of each group as many as of the others, but for what does not divide.
        for classes, share in zip(sets, _shares(half, len(sets)), strict=True):
            alike, apart = in_turn(rng, classes, share), in_turn(rng, classes, share)
            for same, one in zip(alike, apart, strict=True):
                other = int(rng.choice(classes[classes != one]))
                for a, b in ((same, same), (one, other)):
                    first.append(pool.picture(rng, a))
                    second.append(pool.beside(rng, first[-1], b))
        place = torch.arange(self.pairs)
        return pool.batch(rng, np.array(first + second), pairs=(place, place + self.pairs))


def _shares(count: int, parts: int) -> list[int]:
    """`count` in `parts` that differ by one at most."""
    return [len(part) for part in np.array_split(np.arange(count), parts)]
