"""What batches are drawn from: the classes of a split, their images, groups and sources."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages


class Pool:
    """The classes of a split, and the draws that batches are put together from.

    Args:
        data: the data set.
        split: to draw from.
        wanted: classes that must be there.
        key: of the configuration that wants so many, for messages.
        distinct_sources: what is compared comes from different sources (drawers), where it can.
        extra_text_negatives: how many further classes give their words to a batch, as wrong answers; at most
            those there are.
        min_images_per_class: classes with fewer are never drawn.

    Raises:
        DataError: too few classes.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        wanted: int,
        key: str,
        distinct_sources: bool,
        extra_text_negatives: int,
        min_images_per_class: int,
    ) -> None:
        self._data, self._split, self._more_words = data, split, extra_text_negatives
        by_class = {c: index.numpy() for c, index in data.by_class(split).items()}
        self._members = {c: index for c, index in by_class.items() if len(index) >= min_images_per_class}
        if len(self._members) < wanted:
            which = "" if min_images_per_class == 1 else f" of {min_images_per_class} images or more"
            lower = f"; set {key}={len(self._members)} or fewer" if len(self._members) >= 2 else ""
            raise DataError(
                f"{data.name}: split {split!r} has {len(self._members)} classes{which}, and {key} wants {wanted}"
                f"{lower}"
            )
        self.classes = np.array(list(self._members))
        self._labels = data.labels.numpy()
        self._texts = np.array([len(texts) for texts in data.class_texts])
        self._sources = data.source_id.numpy() if distinct_sources and data.source_id is not None else None

    def groups(self) -> list[np.ndarray]:
        """The classes of each group.

        Raises:
            DataError: there are no groups.
        """
        if self._data.class_group is None:
            raise DataError(
                f"{self._data.name} has no groups of classes; leave sampling.groups_per_batch unset"
            )
        group = self._data.class_group.numpy()[self.classes]
        return [self.classes[group == g] for g in np.unique(group)]

    def large_groups(self, count: int, wanted: int, key: str) -> list[np.ndarray]:
        """The classes of each group of `wanted` classes or more, of which there must be `count`.

        Raises:
            DataError: no groups, or too few that are large enough.
        """
        large = [classes for classes in self.groups() if len(classes) >= wanted]
        if len(large) < count:
            raise DataError(
                f"{self._data.name}: split {self._split!r} has {len(large)} groups of {wanted} classes or more "
                f"({key} wants so many); set sampling.groups_per_batch={max(1, len(large))} or fewer"
            )
        return large

    def image(self, rng: np.random.Generator, label: int) -> int:
        """Any image of a class."""
        return int(rng.choice(self._members[label]))

    def images(self, rng: np.random.Generator, label: int, count: int) -> np.ndarray:
        """So many images of a class, of different sources first; a class that has fewer repeats some."""
        members = rng.permutation(self._members[label])
        if self._sources is not None:
            # First images of distinct sources come first, then the rest.
            _, first = np.unique(self._sources[members], return_index=True)
            members = np.concatenate([members[np.sort(first)], np.delete(members, first)])
        return np.resize(members, count)

    def beside(self, rng: np.random.Generator, image: int, label: int) -> int:
        """An image of class `label` to set beside an image, of its own class or another.

        A further one, and from another source where the class has one such. A class of one image
        gives that again: augmentation is drawn for each place of a batch, so the two are different
        distortions of it.
        """
        members = self._members[label]
        further = members[members != image]
        if not len(further):
            return image
        if self._sources is not None:
            apart = further[self._sources[further] != self._sources[image]]
            further = apart if len(apart) else further
        return int(rng.choice(further))

    def batch(
        self,
        rng: np.random.Generator,
        index: np.ndarray,
        chosen: np.ndarray | None = None,
        pairs: tuple[Tensor, Tensor] | None = None,
    ) -> Batch:
        """The batch of some images, with the words that go with it.

        Args:
            rng: of the batch.
            index: `[B]` image numbers.
            chosen: their classes, whose words come in this order; ascending if not given.
            pairs: `i [M]`, `j [M]` within the batch, where it was drawn for certain pairs.
        """
        labels = torch.from_numpy(self._labels[index])
        chosen = labels.unique().numpy() if chosen is None else chosen
        others = np.setdiff1d(self.classes, chosen)
        more = rng.choice(others, min(self._more_words, len(others)), replace=False)
        words = np.concatenate([chosen, more])
        return Batch(
            index=torch.from_numpy(index),
            labels=labels,
            words=torch.from_numpy(words),
            text=torch.from_numpy(rng.integers(self._texts[words])),
            pairs=None if pairs is None else (*pairs, labels[pairs[0]] == labels[pairs[1]]),
        )


def some_of(rng: np.random.Generator, groups: list[np.ndarray], count: int | None) -> list[np.ndarray]:
    """So many of the groups, drawn for a batch; all of them for None."""
    if count is None:
        return groups
    return [groups[n] for n in rng.choice(len(groups), count, replace=False)]


def in_turn(rng: np.random.Generator, classes: np.ndarray, count: int) -> list[int]:
    """So many of the classes at random, none again before all have had their turn."""
    return [int(c) for c in np.resize(rng.permutation(classes), count)]
