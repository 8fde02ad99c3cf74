"""Boxes of the objects in images, with the class of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """The N objects in S images, ordered by image; an image may have none.

    Attributes:
        xyxy: `[N, 4]` float32: left, top, right and bottom as fractions of the image, 0 to 1.
        labels: `[N]` int64, class of each object.
        image: `[N]` int64, number of its image, ascending.
        num_images: S.
        ignored: `[N]` bool: crowds of COCO and difficult objects of VOC, on which nothing is trained, and which count
            neither for nor against a detector; None where there are none.

    Raises:
        ValueError: sizes that differ, images out of order, or a box without area or outside 0 to 1.
    """

    xyxy: Tensor
    labels: Tensor
    image: Tensor
    num_images: int
    ignored: Tensor | None = None

    def __post_init__(self) -> None:
        if self.ignored is None:
            object.__setattr__(self, "ignored", torch.zeros(len(self.labels), dtype=torch.bool))
        if self.xyxy.shape != (len(self.labels), 4) or len(self.image) != len(self.labels):
            raise ValueError(
                f"{tuple(self.xyxy.shape)} boxes, {len(self.labels)} labels, {len(self.image)} images"
            )
        if len(self) and (bool((self.image.diff() < 0).any()) or int(self.image[-1]) >= self.num_images):
            raise ValueError("boxes must be in the order of their images")
        left, top, right, bottom = self.xyxy.unbind(1)
        inside = (left >= 0) & (top >= 0) & (right <= 1) & (bottom <= 1) & (left < right) & (top < bottom)
        if not bool(inside.all()):
            wrong = self.xyxy[~inside][0].tolist()
            raise ValueError(f"left, top, right and bottom in 0 to 1 are needed, with an area, got {wrong}")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def per_image(self) -> Tensor:
        """`[S]` number of objects in each image, ignored ones included."""
        return self.image.bincount(minlength=self.num_images)

    @cached_property
    def _ends(self) -> list[int]:
        return self.per_image.cumsum(0).tolist()

    def rows(self, image: int) -> slice:
        """Which of the N are in an image."""
        end = self._ends[image]
        return slice(end - int(self.per_image[image]), end)

    def subset(self, index: Tensor) -> Boxes:
        """The objects in images `index [n]`, such as those of a split; image `index[k]` becomes number k."""
        rows = [torch.arange(len(self))[self.rows(number)] for number in index.tolist()]
        every = torch.cat([torch.empty(0, dtype=torch.int64), *rows])
        numbers = torch.arange(len(index)).repeat_interleave(self.per_image[index])
        assert self.ignored is not None
        return Boxes(self.xyxy[every], self.labels[every], numbers, len(index), self.ignored[every])

    def __getitem__(self, chosen: Tensor) -> Boxes:
        """Some of the objects, by number or by truth, of the same images."""
        assert self.ignored is not None
        return Boxes(
            self.xyxy[chosen], self.labels[chosen], self.image[chosen], self.num_images, self.ignored[chosen]
        )

    @property
    def objects(self) -> Boxes:
        """Those that are not ignored."""
        assert self.ignored is not None
        return self[~self.ignored]

    @classmethod
    def cat(cls, parts: Sequence[Boxes]) -> Boxes:
        """The objects of the images of several parts, one part after the other."""
        starts = torch.tensor([0, *(part.num_images for part in parts)]).cumsum(0).tolist()
        return cls(
            torch.cat([part.xyxy for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.image + start for part, start in zip(parts, starts, strict=False)]),
            starts[-1],
            torch.cat([part.ignored for part in parts if part.ignored is not None]),
        )
