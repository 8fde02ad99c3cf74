"""Batches with the same number of images of each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import ClassSampler


class ClassBalancedSampler(ClassSampler):
    """Draws C classes and K images of each, without replacement where possible.

    With G groups, C/G classes come from each; a group with fewer is filled up from further groups.

    Args:
        data: the data set.
        split: to draw from.
        classes_per_batch: C.
        images_per_class: K; a class with fewer images repeats some.
        options: of `ClassSampler`.

    Raises:
        DataError: the split has fewer than C classes, or no groups.
    """

    def __init__(
        self, data: LabeledImages, split: str, classes_per_batch: int, images_per_class: int, **options: Any
    ) -> None:
        key = "sampling.classes_per_batch"
        super().__init__(data, split, min_classes=classes_per_batch, key=key, **options)
        self.classes_per_batch, self.images_per_class = classes_per_batch, images_per_class
        if classes_per_batch % (groups := self.groups_per_batch or 1):
            raise DataError(
                f"{key}={classes_per_batch} is not a multiple of sampling.groups_per_batch={groups}"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call; images of a class are consecutive."""
        rng = generator_at(self.seed, "batch", number)
        classes = self._draw_classes(rng)
        index = np.concatenate([self.draw_images(rng, c, self.images_per_class) for c in classes])
        return self.with_texts(rng, index, classes)

    def _draw_classes(self, rng: np.random.Generator) -> np.ndarray:
        if self.groups_per_batch is None:
            return rng.choice(self.classes, self.classes_per_batch, replace=False)
        share = self.classes_per_batch // self.groups_per_batch
        drawn: list[np.ndarray] = []
        missing = self.classes_per_batch
        for number in rng.permutation(len(self.groups)):
            count = min(share, missing, len(self.groups[number]))
            drawn.append(rng.choice(self.groups[number], count, replace=False))
            missing -= count
            if not missing:
                return np.concatenate(drawn)
        rest = np.setdiff1d(self.classes, np.concatenate(drawn))
        return np.concatenate([*drawn, rng.choice(rest, missing, replace=False)])
