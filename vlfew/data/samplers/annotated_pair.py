"""Batches of the data set's own training pairs, with same/different labels only."""

from __future__ import annotations

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages


class AnnotatedPairSampler:
    """Draws M of a split's own pairs, half same and half different, without repetition in a batch.

    For image-restricted training (LFW, View 2): identities are not used, and all labels of a batch are -1. The first
    images of the pairs are `0..M-1` of the batch, the second ones `M..2M-1`.

    Args:
        data: the data set.
        split: to draw from.
        annotated_pairs_per_batch: M, even.
        seed: of all draws.

    Raises:
        DataError: the split has no annotated pairs, or too few of one kind.
    """

    def __init__(
        self, data: LabeledImages, split: str, *, annotated_pairs_per_batch: int, seed: int = 0
    ) -> None:
        self.annotated_pairs_per_batch, self.seed = annotated_pairs_per_batch, seed
        own = data.pairs.get(split)
        if own is None:
            raise DataError(
                f"{data.name} as configured has no annotated training pairs (lfw has them with "
                "data.training_labels=image-restricted, pairs with data.fold=1); sampling.pairs_per_batch draws "
                "pairs from classes"
            )
        self._own = own
        self._kinds = [np.flatnonzero(own.same.numpy() == kind) for kind in (True, False)]
        fewest = min(map(len, self._kinds))
        if fewest < annotated_pairs_per_batch // 2:
            same, different = map(len, self._kinds)
            raise DataError(
                f"{data.name}: {same:,} same training pairs and {different:,} different ones, and half of "
                f"sampling.annotated_pairs_per_batch={annotated_pairs_per_batch} is of each kind; "
                + (f"set it to {2 * fewest} or fewer" if fewest else "both kinds are needed")
            )

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call."""
        rng = generator_at(self.seed, "given pairs", number)
        half = self.annotated_pairs_per_batch // 2
        chosen = np.concatenate([rng.choice(kind, half, replace=False) for kind in self._kinds])
        # The two kinds alternate, so that every process gets both in equal parts.
        drawn = torch.from_numpy(chosen.reshape(2, half).T.ravel())
        index = torch.cat([self._own.i[drawn], self._own.j[drawn]])
        position = torch.arange(self.annotated_pairs_per_batch)
        empty = torch.empty(0, dtype=torch.int64)
        return Batch(
            index=index,
            labels=torch.full_like(index, -1),
            text_classes=empty,
            text_choice=empty,
            pairs=(position, position + self.annotated_pairs_per_batch, self._own.same[drawn]),
        )
