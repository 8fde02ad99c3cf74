"""Batches by number: which pictures batch `n` holds is a pure function of the seed and `n`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlfew.counting import generator_at
from vlfew.data.images import LabelledImages
from vlfew.errors import DataError


@dataclass(frozen=True)
class Batch:
    """A batch as numbers, not pictures.

    Attributes:
        index: `[B]` picture numbers; `pictures` of one class follow one another.
        labels: `[B]` data class number of each picture.
        words: `[T]` data class numbers whose words go with the batch, distinct.
        text: `[T]` which of a class's texts stands for it this time.
        pairs: `i [M]`, `j [M]` within the batch and `same [M]` bool, where the batch was drawn for
            certain pairs.
    """

    index: Tensor
    labels: Tensor
    words: Tensor
    text: Tensor
    pairs: tuple[Tensor, Tensor, Tensor] | None = None


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
        self.classes, self.pictures, self.groups = classes, pictures, groups
        self.more_words, self.seed = more_words, seed
        by_class = {c: index for c, index in data.by_class(split).items() if len(index) >= least_pictures}
        if len(by_class) < classes:
            which = "" if least_pictures == 1 else f" of {least_pictures} pictures or more"
            raise DataError(
                f"{data.name}: split {split!r} has {len(by_class)} classes{which}, a batch wants {classes}; "
                f"set sampling.classes={len(by_class)} or fewer"
            )
        self._members = {c: index.numpy() for c, index in by_class.items()}
        self._texts = np.array([len(texts) for texts in data.class_texts])
        self._sources = data.source_id.numpy() if distinct_sources and data.source_id is not None else None
        self._ids = np.array(list(by_class))
        self._by_group: list[np.ndarray] = []
        if groups is not None:
            if data.class_group is None:
                raise DataError(f"{data.name} has no groups of classes; leave sampling.groups unset")
            if classes % groups:
                raise DataError(f"sampling.classes={classes} is not a multiple of sampling.groups={groups}")
            group = data.class_group.numpy()[self._ids]
            self._by_group = [self._ids[group == g] for g in np.unique(group)]

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        rng = generator_at(self.seed, "batch", number)
        chosen = self._choose_classes(rng)
        index = np.concatenate([self._choose_pictures(rng, c) for c in chosen])
        others = np.setdiff1d(self._ids, chosen)
        more = rng.choice(others, min(self.more_words, len(others)), replace=False)
        words = np.concatenate([chosen, more])
        return Batch(
            index=torch.from_numpy(index),
            labels=torch.from_numpy(chosen).repeat_interleave(self.pictures),
            words=torch.from_numpy(words),
            text=torch.from_numpy(rng.integers(self._texts[words])),
        )

    def _choose_classes(self, rng: np.random.Generator) -> np.ndarray:
        if self.groups is None:
            return rng.choice(self._ids, self.classes, replace=False)
        share = self.classes // self.groups
        chosen: list[np.ndarray] = []
        missing = self.classes
        for number in rng.permutation(len(self._by_group)):
            take = min(share, missing, len(self._by_group[number]))
            chosen.append(rng.choice(self._by_group[number], take, replace=False))
            missing -= take
            if not missing:
                return np.concatenate(chosen)
        rest = np.setdiff1d(self._ids, np.concatenate(chosen))
        return np.concatenate([*chosen, rng.choice(rest, missing, replace=False)])

    def _choose_pictures(self, rng: np.random.Generator, label: int) -> np.ndarray:
        members = rng.permutation(self._members[label])
        if self._sources is not None:
            # First pictures of distinct sources come first, then the rest.
            _, first = np.unique(self._sources[members], return_index=True)
            members = np.concatenate([members[np.sort(first)], np.delete(members, first)])
        return np.resize(members, self.pictures)
