"""Batches of classes by number: which pictures batch `n` holds is a pure function of the seed and `n`."""

from __future__ import annotations

import numpy as np

from vlfew.counting import generator_at
from vlfew.data.batch import Batch
from vlfew.data.images import LabelledImages
from vlfew.data.pool import Pool
from vlfew.errors import DataError


class ClassBalancedSampler:
    """Draws `classes` classes and `pictures` pictures of each, without replacement where it can.

    Args:
        data: the data set.
        split: to draw from.
        classes: C, classes in a batch.
        pictures: K, pictures of each; a class that has fewer repeats some.
        groups: with a number G, the classes come from G groups, C/G of each; a group with fewer
            classes is filled up from further groups.
        distinct_sources: take a class's pictures from different sources (drawers) where known.
        more_words: how many further classes give their words to the batch, as wrong answers; at most
            those there are.
        least_pictures: classes with fewer are never drawn.
        seed: of all draws.

    Raises:
        DataError: the split has fewer classes than C, or no groups where groups are asked for.
    """

    def __init__(
        self,
        data: LabelledImages,
        split: str,
        classes: int,
        pictures: int,
        groups: int | None = None,
        distinct_sources: bool = True,
        more_words: int = 0,
        least_pictures: int = 1,
        seed: int = 0,
    ) -> None:
        self.classes, self.pictures, self.groups, self.seed = classes, pictures, groups, seed
        self._pool = Pool(
            data,
            split,
            wanted=classes,
            key="sampling.classes",
            distinct_sources=distinct_sources,
            more_words=more_words,
            least_pictures=least_pictures,
        )
        self._groups = self._pool.groups() if groups is not None else []
        if groups is not None and classes % groups:
            raise DataError(f"sampling.classes={classes} is not a multiple of sampling.groups={groups}")

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for; pictures of a class follow one another."""
        rng, pool = generator_at(self.seed, "batch", number), self._pool
        chosen = self._choose_classes(rng)
        index = np.concatenate([pool.pictures(rng, c, self.pictures) for c in chosen])
        return pool.batch(rng, index, chosen)

    def _choose_classes(self, rng: np.random.Generator) -> np.ndarray:
        if self.groups is None:
            return rng.choice(self._pool.classes, self.classes, replace=False)
        share = self.classes // self.groups
        chosen: list[np.ndarray] = []
        missing = self.classes
        for number in rng.permutation(len(self._groups)):
            take = min(share, missing, len(self._groups[number]))
            chosen.append(rng.choice(self._groups[number], take, replace=False))
            missing -= take
            if not missing:
                return np.concatenate(chosen)
        rest = np.setdiff1d(self._pool.classes, np.concatenate(chosen))
        return np.concatenate([*chosen, rng.choice(rest, missing, replace=False)])
