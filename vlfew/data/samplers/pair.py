"""Batches of image pairs, half from the same class and half from two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.base import ClassSampler, draw_classes


class PairSampler(ClassSampler):
    """Draws M pairs, each with its own two images, so that a batch has 2 M images.

    The first images of the pairs are `0..M-1` of the batch, the second ones `M..2M-1`; same and different pairs
    alternate. The images of a same pair differ wherever their class has two; see `ClassSampler.draw_partner`. Both
    classes of a different pair are of one group, where there are groups.

    Args:
        data: the data set.
        split: to draw from.
        pairs_per_batch: M, even.
        options: of `ClassSampler`.

    Raises:
        DataError: fewer than two classes; no groups, or too few with two classes; more groups than pairs of either
            kind.
    """

    def __init__(self, data: LabeledImages, split: str, *, pairs_per_batch: int, **options: Any) -> None:
        super().__init__(data, split, min_classes=2, key="sampling.pairs_per_batch", **options)
        self.require_large_groups(2)
        self.pairs_per_batch, half = pairs_per_batch, pairs_per_batch // 2
        if half < (groups := self.groups_per_batch or 0):
            raise DataError(
                f"{self.key}={pairs_per_batch} is {half} same and {half} different pairs, and "
                f"sampling.groups_per_batch={groups} needs one of each from every group; "
                f"set {self.key}={2 * groups} or more, or fewer groups"
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call."""
        rng = generator_at(self.seed, "pairs", number)
        groups = self.draw_groups(rng)
        first: list[int] = []
        second: list[int] = []
        # As equal a share of every group as divides.
        shares = map(len, np.array_split(np.arange(self.pairs_per_batch // 2), len(groups)))
        for classes, share in zip(groups, shares, strict=True):
            same_classes, classes_a = draw_classes(rng, classes, share), draw_classes(rng, classes, share)
            for same, a in zip(same_classes, classes_a, strict=True):
                b = int(rng.choice(classes[classes != a]))
                for one, other in ((same, same), (a, b)):
                    first.append(self.draw_image(rng, one))
                    second.append(self.draw_partner(rng, first[-1], other))
        i = torch.arange(self.pairs_per_batch)
        return self.with_texts(rng, np.array(first + second), pairs=(i, i + self.pairs_per_batch))
