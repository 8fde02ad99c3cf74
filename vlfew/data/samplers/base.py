"""The classes of a split, and the random choices that batches consist of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages


class ClassSampler:
    """Base of the samplers that draw from classes: draws classes, images and texts of a split.

    Args:
        data: the data set.
        split: to draw from.
        min_classes: number of classes that a batch needs.
        key: configuration key that sets this number, for messages.
        groups_per_batch: number of groups that the classes of a batch come from; None for all classes alike.
        distinct_sources: compare images of different sources (drawers) where possible.
        extra_text_negatives: number of further classes whose texts are added to a batch as negatives; at most as many
            as there are.
        min_images_per_class: smaller classes are not drawn.
        seed: of all draws.

    Raises:
        DataError: too few classes, or no groups.
    """

    def __init__(
        self,
        data: LabeledImages,
        split: str,
        *,
        min_classes: int,
        key: str,
        groups_per_batch: int | None = None,
        distinct_sources: bool = True,
        extra_text_negatives: int = 0,
        min_images_per_class: int = 1,
        seed: int = 0,
    ) -> None:
        self.key, self.seed, self.groups_per_batch = key, seed, groups_per_batch
        self.extra_text_negatives = extra_text_negatives
        by_class = {c: index.numpy() for c, index in data.by_class(split).items()}
        self.members = {c: index for c, index in by_class.items() if len(index) >= min_images_per_class}
        self.where = f"{data.name}: split {split!r}"
        if (available := len(self.members)) < min_classes:
            size = "" if min_images_per_class == 1 else f" of {min_images_per_class} images or more"
            hint = f"; set {key}={available} or fewer" if available >= 2 else ""
            raise DataError(
                f"{self.where} has {counted(available, 'class')}{size}, and {key} needs {min_classes}{hint}"
            )
        self.classes = np.array(list(self.members))
        self.labels = data.labels.numpy()
        self.text_counts = np.array([len(texts) for texts in data.class_texts])
        self.classes_with_text = self.classes[self.text_counts[self.classes] > 0]
        self.sources = data.source_id.numpy() if distinct_sources and data.source_id is not None else None
        self.groups = [self.classes]
        if groups_per_batch is not None:
            if data.class_group is None:
                raise DataError(
                    f"{data.name} has no groups of classes; leave sampling.groups_per_batch unset"
                )
            group = data.class_group.numpy()[self.classes]
            self.groups = [self.classes[group == g] for g in np.unique(group)]

    def require_large_groups(self, min_classes: int) -> None:
        """Keep only the groups with at least `min_classes` classes.

        Raises:
            DataError: fewer than `groups_per_batch` such groups.
        """
        if self.groups_per_batch is None:
            return
        self.groups = [classes for classes in self.groups if len(classes) >= min_classes]
        if (large := len(self.groups)) < self.groups_per_batch:
            groups = f"{counted(large, 'group')} of {min_classes} classes or more"
            raise DataError(
                f"{self.where} has {groups} (needed by {self.key}); "
                + (
                    f"set sampling.groups_per_batch={large} or fewer"
                    if large
                    else "leave out sampling.groups_per_batch"
                )
            )

    def draw_groups(self, rng: np.random.Generator) -> list[np.ndarray]:
        """The classes of each of `groups_per_batch` groups."""
        if self.groups_per_batch is None:
            return self.groups
        return [self.groups[n] for n in rng.choice(len(self.groups), self.groups_per_batch, replace=False)]

    def draw_image(self, rng: np.random.Generator, label: int) -> int:
        """An image of a class."""
        return int(rng.choice(self.members[label]))

    def draw_images(self, rng: np.random.Generator, label: int, count: int) -> np.ndarray:
        """`count` images of a class, different sources first; a class with fewer images repeats some."""
        members = rng.permutation(self.members[label])
        if self.sources is not None:
            # The first image of each source comes first, then the rest.
            _, first = np.unique(self.sources[members], return_index=True)
            members = np.concatenate([members[np.sort(first)], np.delete(members, first)])
        return np.resize(members, count)

    def draw_partner(self, rng: np.random.Generator, image: int, label: int) -> int:
        """An image of class `label` to compare with `image`, whose class may be the same.

        A different image, from another source where the class has one. A class with a single image returns it:
        augmentation is drawn for each position of a batch, so the two are different distortions of it.
        """
        members = self.members[label]
        others = members[members != image]
        if not len(others):
            return image
        if self.sources is not None:
            other_sources = others[self.sources[others] != self.sources[image]]
            others = other_sources if len(other_sources) else others
        return int(rng.choice(others))

    def with_texts(
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
            classes: their classes, in the order of the texts; ascending if not given. Those without text have none.
            pairs: `i [M]` and `j [M]` within the batch.
        """
        labels = torch.from_numpy(self.labels[index])
        classes = labels.unique().numpy() if classes is None else classes
        classes = classes[self.text_counts[classes] > 0]
        others = np.setdiff1d(self.classes_with_text, classes)
        # A batch without any text gets one as a negative, so that the text stream has a gradient in every batch.
        count = max(self.extra_text_negatives, 0 if len(classes) else 1)
        negatives = rng.choice(others, min(count, len(others)), replace=False)
        text_classes = np.concatenate([classes, negatives])
        return Batch(
            index=torch.from_numpy(index),
            labels=labels,
            text_classes=torch.from_numpy(text_classes),
            text_choice=torch.from_numpy(rng.integers(self.text_counts[text_classes])),
            pairs=None if pairs is None else (*pairs, labels[pairs[0]] == labels[pairs[1]]),
        )


def draw_classes(rng: np.random.Generator, classes: np.ndarray, count: int) -> list[int]:
    """`count` classes in random order; none is repeated before all were drawn."""
    return [int(c) for c in np.resize(rng.permutation(classes), count)]
