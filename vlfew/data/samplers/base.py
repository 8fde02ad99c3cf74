"""The classes of a split, and the random choices that batches consist of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages


class ClassPool:
    """Draws classes and images of a split.

    Args:
        data: the data set.
        split: to draw from.
        min_classes: number of classes that a batch needs.
        key: configuration key that sets this number, for messages.
        distinct_sources: compare images of different sources (drawers) where possible.
        extra_text_negatives: number of further classes whose texts are added to a batch as negatives; at most as many
            as there are.
        min_images_per_class: smaller classes are not drawn.

    Raises:
        DataError: too few classes.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        min_classes: int,
        key: str,
        distinct_sources: bool = True,
        extra_text_negatives: int = 0,
        min_images_per_class: int = 1,
    ) -> None:
        self._data, self._split, self._extra_text_negatives = data, split, extra_text_negatives
        by_class = {c: index.numpy() for c, index in data.by_class(split).items()}
        self._members = {c: index for c, index in by_class.items() if len(index) >= min_images_per_class}
        if (available := len(self._members)) < min_classes:
            size = "" if min_images_per_class == 1 else f" of {min_images_per_class} images or more"
            hint = f"; set {key}={available} or fewer" if available >= 2 else ""
            raise DataError(
                f"{data.name}: split {split!r} has {available} classes{size}, and {key} needs {min_classes}{hint}"
            )
        self.classes = np.array(list(self._members))
        self._labels = data.labels.numpy()
        self._text_counts = np.array([len(texts) for texts in data.class_texts])
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

    def large_groups(self, count: int, min_classes: int, key: str) -> list[np.ndarray]:
        """The classes of each group that has at least `min_classes` of them.

        Raises:
            DataError: there are no groups, or fewer than `count` such groups.
        """
        large = [classes for classes in self.groups() if len(classes) >= min_classes]
        if len(large) < count:
            raise DataError(
                f"{self._data.name}: split {self._split!r} has {len(large)} groups of {min_classes} classes or more "
                f"(needed by {key}); set sampling.groups_per_batch={max(1, len(large))} or fewer"
            )
        return large

    def draw_image(self, rng: np.random.Generator, label: int) -> int:
        """An image of a class."""
        return int(rng.choice(self._members[label]))

    def draw_images(self, rng: np.random.Generator, label: int, count: int) -> np.ndarray:
        """`count` images of a class, different sources first; a class with fewer images repeats some."""
        members = rng.permutation(self._members[label])
        if self._sources is not None:
            # The first image of each source comes first, then the rest.
            _, first = np.unique(self._sources[members], return_index=True)
            members = np.concatenate([members[np.sort(first)], np.delete(members, first)])
        return np.resize(members, count)

    def draw_partner(self, rng: np.random.Generator, image: int, label: int) -> int:
        """An image of class `label` to compare with `image`, whose class may be the same.

        A different image, from another source where the class has one. A class with a single image returns it:
        augmentation is drawn for each position of a batch, so the two are different distortions of it.
        """
        members = self._members[label]
        others = members[members != image]
        if not len(others):
            return image
        if self._sources is not None:
            other_sources = others[self._sources[others] != self._sources[image]]
            others = other_sources if len(other_sources) else others
        return int(rng.choice(others))

    def batch(
        self,
        rng: np.random.Generator,
        index: np.ndarray,
        classes: np.ndarray | None = None,
        pairs: tuple[Tensor, Tensor] | None = None,
    ) -> Batch:
        """The batch of given images, with its texts.

        Args:
            rng: of the batch.
            index: `[B]` image numbers.
            classes: their classes, in the order of the texts; ascending if not given.
            pairs: `i [M]` and `j [M]` within the batch.
        """
        labels = torch.from_numpy(self._labels[index])
        classes = labels.unique().numpy() if classes is None else classes
        others = np.setdiff1d(self.classes, classes)
        negatives = rng.choice(others, min(self._extra_text_negatives, len(others)), replace=False)
        text_classes = np.concatenate([classes, negatives])
        return Batch(
            index=torch.from_numpy(index),
            labels=labels,
            text_classes=torch.from_numpy(text_classes),
            text_choice=torch.from_numpy(rng.integers(self._text_counts[text_classes])),
            pairs=None if pairs is None else (*pairs, labels[pairs[0]] == labels[pairs[1]]),
        )


def draw_groups(rng: np.random.Generator, groups: list[np.ndarray], count: int | None) -> list[np.ndarray]:
    """`count` of the groups; all of them for None."""
    if count is None:
        return groups
    return [groups[n] for n in rng.choice(len(groups), count, replace=False)]


def draw_classes(rng: np.random.Generator, classes: np.ndarray, count: int) -> list[int]:
    """`count` classes in random order; none is repeated before all were drawn."""
    return [int(c) for c in np.resize(rng.permutation(classes), count)]
