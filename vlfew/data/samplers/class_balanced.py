"""Batches of classes by number: which images batch `n` holds is a pure function of the seed and `n`."""

from __future__ import annotations

import numpy as np

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import Pool


class ClassBalancedSampler:
    """Draws `classes` classes and `images` images of each, without replacement where it can.

    Args:
        data: the data set.
        split: to draw from.
        classes_per_batch: C, classes in a batch.
        images_per_class: K, images of each; a class that has fewer repeats some.
        groups_per_batch: with a number G, the classes come from G groups, C/G of each; a group with fewer
            classes is filled up from further groups.
        distinct_sources: take a class's images from different sources (drawers) where known.
        extra_text_negatives: how many further classes give their words to the batch, as wrong answers; at most
            those there are.
        min_images_per_class: classes with fewer are never drawn.
        seed: of all draws.

    Raises:
        DataError: the split has fewer classes than C, or no groups where groups are asked for.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        classes_per_batch: int,
        images_per_class: int,
        groups_per_batch: int | None = None,
        distinct_sources: bool = True,
        extra_text_negatives: int = 0,
        min_images_per_class: int = 1,
        seed: int = 0,
    ) -> None:
        self.classes_per_batch, self.images_per_class, self.groups_per_batch = (
            classes_per_batch,
            images_per_class,
            groups_per_batch,
        )
        self.seed = seed
        self._pool = Pool(
            data,
            split,
            wanted=classes_per_batch,
            key="sampling.classes_per_batch",
            distinct_sources=distinct_sources,
            extra_text_negatives=extra_text_negatives,
            min_images_per_class=min_images_per_class,
        )
        self._groups = self._pool.groups() if groups_per_batch is not None else []
        if groups_per_batch is not None and classes_per_batch % groups_per_batch:
            raise DataError(
                f"sampling.classes_per_batch={classes_per_batch} is not a multiple of sampling.groups_per_batch={groups_per_batch}"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for; images of a class follow one another."""
        rng, pool = generator_at(self.seed, "batch", number), self._pool
        chosen = self._choose_classes(rng)
        index = np.concatenate([pool.images(rng, c, self.images_per_class) for c in chosen])
        return pool.batch(rng, index, chosen)

    def _choose_classes(self, rng: np.random.Generator) -> np.ndarray:
        if self.groups_per_batch is None:
            return rng.choice(self._pool.classes, self.classes_per_batch, replace=False)
        share = self.classes_per_batch // self.groups_per_batch
        chosen: list[np.ndarray] = []
        missing = self.classes_per_batch
        for number in rng.permutation(len(self._groups)):
            take = min(share, missing, len(self._groups[number]))
            chosen.append(rng.choice(self._groups[number], take, replace=False))
            missing -= take
            if not missing:
                return np.concatenate(chosen)
        rest = np.setdiff1d(self._pool.classes, np.concatenate(chosen))
        return np.concatenate([*chosen, rng.choice(rest, missing, replace=False)])
