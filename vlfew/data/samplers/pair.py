"""Batches of image pairs, half from the same class and half from two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import ClassPool, draw_classes, draw_groups


class PairSampler:
    """Draws M pairs, each with its own two images, so that a batch has 2 M images.

    The first images of the pairs are `0..M-1` of the batch, the second ones `M..2M-1`; same and different pairs
    alternate. The images of a same pair differ wherever their class has two; see `ClassPool.draw_partner`.

    Args:
        data: the data set.
        split: to draw from.
        pairs_per_batch: M, even.
        groups_per_batch: number of groups that the pairs come from; both classes of a different pair are of one group.
        seed: of all draws.
        pool_options: of `ClassPool`.

    Raises:
        DataError: fewer than two classes; no groups, or too few with two classes; more groups than pairs of either
            kind.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        pairs_per_batch: int,
        groups_per_batch: int | None = None,
        seed: int = 0,
        **pool_options: Any,
    ) -> None:
        self.pairs_per_batch, self.groups_per_batch, self.seed = pairs_per_batch, groups_per_batch, seed
        key = "sampling.pairs_per_batch"
        self._pool = ClassPool(data, split, min_classes=2, key=key, **pool_options)
        self._sets = [self._pool.classes]
        if groups_per_batch is not None:
            self._sets = self._pool.large_groups(groups_per_batch, 2, key)
            if (half := pairs_per_batch // 2) < groups_per_batch:
                raise DataError(
                    f"{key}={pairs_per_batch} is {half} same and {half} different pairs, and "
                    f"sampling.groups_per_batch={groups_per_batch} needs one of each from every group; "
                    f"set {key}={2 * groups_per_batch} or more, or fewer groups"
                )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call."""
        rng, pool = generator_at(self.seed, "pairs", number), self._pool
        sets = draw_groups(rng, self._sets, self.groups_per_batch)
        first: list[int] = []
        second: list[int] = []
        # As equal a share of every group as divides.
        shares = map(len, np.array_split(np.arange(self.pairs_per_batch // 2), len(sets)))
        for classes, share in zip(sets, shares, strict=True):
            same_classes, classes_a = draw_classes(rng, classes, share), draw_classes(rng, classes, share)
            for same, a in zip(same_classes, classes_a, strict=True):
                b = int(rng.choice(classes[classes != a]))
                for one, other in ((same, same), (a, b)):
                    first.append(pool.draw_image(rng, one))
                    second.append(pool.draw_partner(rng, first[-1], other))
        position = torch.arange(self.pairs_per_batch)
        return pool.batch(rng, np.array(first + second), pairs=(position, position + self.pairs_per_batch))
