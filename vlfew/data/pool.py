"""What pairs and tasks are drawn from: the classes of a split, their groups and sources."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vlfew.data.images import LabelledImages
from vlfew.data.sampler import Batch
from vlfew.errors import DataError


class Pool:
    """The classes of a split, and the draws that pairs and tasks are put together from.

    Args:
        data: the data set.
        split: to draw from.
        wanted: classes that must be there to tell apart.
        key: of the configuration that wants so many, for messages.
        groups: with a number G, everything in a batch comes from G groups, and what is compared is of
            one group; groups with fewer classes than wanted are left out.
        distinct_sources: what is compared comes from different sources (drawers), where it can.
        more_words: how many further classes give their words to a batch.
        least_pictures: classes with fewer are never drawn.

    Raises:
        DataError: too few classes; no groups, or too few of them that are large enough.
    """

    def __init__(
        self,
        data: LabelledImages,
        split: str,
        *,
        wanted: int,
        key: str,
        groups: int | None,
        distinct_sources: bool,
        more_words: int,
        least_pictures: int,
    ) -> None:
        by_class = {c: index.numpy() for c, index in data.by_class(split).items()}
        self._members = {c: index for c, index in by_class.items() if len(index) >= least_pictures}
        if len(self._members) < wanted:
            which = "" if least_pictures == 1 else f" of {least_pictures} pictures or more"
            raise DataError(
                f"{data.name}: split {split!r} has {len(self._members)} classes{which}, and {key} wants {wanted}"
            )
        self._ids = np.array(list(self._members))
        self._labels = data.labels.numpy()
        self._texts = np.array([len(texts) for texts in data.class_texts])
        self._sources = data.source_id.numpy() if distinct_sources and data.source_id is not None else None
        self._more_words, self._groups = more_words, groups
        self._sets = [self._ids]
        if groups is not None:
            if data.class_group is None:
                raise DataError(f"{data.name} has no groups of classes; leave sampling.groups unset")
            group = data.class_group.numpy()[self._ids]
            every = [self._ids[group == g] for g in np.unique(group)]
            self._sets = [ids for ids in every if len(ids) >= wanted]
            if len(self._sets) < groups:
                raise DataError(
                    f"{data.name}: split {split!r} has {len(self._sets)} groups of {wanted} classes or more "
                    f"({key} wants so many); set sampling.groups={max(1, len(self._sets))} or fewer"
                )

    def sets(self, rng: np.random.Generator) -> list[np.ndarray]:
        """The classes of each of G groups, drawn for a batch; without groups, all classes as one."""
        if self._groups is None:
            return self._sets
        return [self._sets[n] for n in rng.choice(len(self._sets), self._groups, replace=False)]

    def picture(self, rng: np.random.Generator, label: int) -> int:
        """Any picture of a class."""
        return int(rng.choice(self._members[label]))

    def beside(self, rng: np.random.Generator, picture: int, label: int) -> int:
        """A picture of class `label` to set beside a picture, of its own class or another.

        A further one, and from another source where the class has one such. A class of one picture
        gives that again: augmentation is drawn for each place of a batch, so the two are different
        distortions of it.
        """
        members = self._members[label]
        further = members[members != picture]
        if not len(further):
            return picture
        if self._sources is not None:
            apart = further[self._sources[further] != self._sources[picture]]
            further = apart if len(apart) else further
        return int(rng.choice(further))

    def batch(self, rng: np.random.Generator, index: list[int], i: Tensor, j: Tensor) -> Batch:
        """The batch of pictures `index [B]` with the pairs `i [M]`, `j [M]` in it."""
        labels = torch.from_numpy(self._labels[index])
        chosen = labels.unique().numpy()
        others = np.setdiff1d(self._ids, chosen)
        more = rng.choice(others, min(self._more_words, len(others)), replace=False)
        words = np.concatenate([chosen, more])
        return Batch(
            index=torch.tensor(index),
            labels=labels,
            words=torch.from_numpy(words),
            text=torch.from_numpy(rng.integers(self._texts[words])),
            pairs=(i, j, labels[i] == labels[j]),
        )


def in_turn(rng: np.random.Generator, classes: np.ndarray, count: int) -> list[int]:
    """So many of the classes at random, none again before all have had their turn."""
    return [int(c) for c in np.resize(rng.permutation(classes), count)]
