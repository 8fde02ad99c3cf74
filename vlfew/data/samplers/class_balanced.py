"""Batches with the same number of images of each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import ClassPool


class ClassBalancedSampler:
    """Draws C classes and K images of each, without replacement where possible.

    Args:
        data: the data set.
        split: to draw from.
        classes_per_batch: C.
        images_per_class: K; a class with fewer images repeats some.
        groups_per_batch: number G of groups that the classes come from, C/G of each; a group with fewer classes is
            filled up from further groups.
        seed: of all draws.
        pool_options: of `ClassPool`.

    Raises:
        DataError: the split has fewer than C classes, or no groups.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        classes_per_batch: int,
        images_per_class: int,
        groups_per_batch: int | None = None,
        seed: int = 0,
        **pool_options: Any,
    ) -> None:
        self.classes_per_batch, self.images_per_class, self.seed = classes_per_batch, images_per_class, seed
        self.groups_per_batch = groups_per_batch
        key = "sampling.classes_per_batch"
        self._pool = ClassPool(data, split, min_classes=classes_per_batch, key=key, **pool_options)
        self._groups = self._pool.groups() if groups_per_batch is not None else []
        if groups_per_batch is not None and classes_per_batch % groups_per_batch:
            raise DataError(
                f"{key}={classes_per_batch} is not a multiple of sampling.groups_per_batch={groups_per_batch}"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call; images of a class are consecutive."""
        rng, pool = generator_at(self.seed, "batch", number), self._pool
        classes = self._draw_classes(rng)
        index = np.concatenate([pool.draw_images(rng, c, self.images_per_class) for c in classes])
        return pool.batch(rng, index, classes)

    def _draw_classes(self, rng: np.random.Generator) -> np.ndarray:
        if self.groups_per_batch is None:
            return rng.choice(self._pool.classes, self.classes_per_batch, replace=False)
        share = self.classes_per_batch // self.groups_per_batch
        drawn: list[np.ndarray] = []
        missing = self.classes_per_batch
        for number in rng.permutation(len(self._groups)):
            count = min(share, missing, len(self._groups[number]))
            drawn.append(rng.choice(self._groups[number], count, replace=False))
            missing -= count
            if not missing:
                return np.concatenate(drawn)
        rest = np.setdiff1d(self._pool.classes, np.concatenate(drawn))
        return np.concatenate([*drawn, rng.choice(rest, missing, replace=False)])
