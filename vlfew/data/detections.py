"""What a detector finds: boxes with scores, and names where it gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlfew.core.errors import DataError


@dataclass(frozen=True)
class Detections:
    """The M boxes found in S images, in any order.

    Attributes:
        xyxy: `[M, 4]` float: left, top, right and bottom as fractions of the image.
        scores: `[M]` float, the higher the surer.
        image: `[M]` int64, number of the image of each.
        num_images: S.
        labels: `[M]` int64, class of each; None for a detector that names nothing.

    Raises:
        DataError: sizes that differ, numbers of images that there are not, or values that are not finite.
    """

    xyxy: Tensor
    scores: Tensor
    image: Tensor
    num_images: int
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = [len(self.scores), len(self.image)] + ([] if self.labels is None else [len(self.labels)])
        if self.xyxy.shape != (sizes[0], 4) or len(set(sizes)) > 1:
            raise DataError(
                f"detections: boxes {tuple(self.xyxy.shape)} need as many scores, images and labels, got "
                f"{', '.join(map(str, sizes))}"
            )
        if len(self) and not 0 <= int(self.image.min()) <= int(self.image.max()) < self.num_images:
            raise DataError(f"detections: images are numbered from 0 to {self.num_images - 1}")
        if not bool(self.xyxy.isfinite().all()) or not bool(self.scores.isfinite().all()):
            raise DataError("detections: a box or score is NaN or infinite")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of_images(
        cls, xyxy: Sequence[Tensor], scores: Sequence[Tensor], labels: Sequence[Tensor] | None = None
    ) -> Detections:
        """The detections of images one after the other: boxes `[m, 4]`, scores `[m]` and labels `[m]` of each."""
        image = torch.arange(len(xyxy)).repeat_interleave(
            torch.tensor([len(own) for own in xyxy], dtype=torch.int64)
        )
        return cls(
            torch.cat([torch.zeros(0, 4), *(own.reshape(-1, 4) for own in xyxy)]),
            torch.cat([torch.zeros(0), *scores]),
            image,
            len(xyxy),
            None if labels is None else torch.cat([torch.zeros(0, dtype=torch.int64), *labels]),
        )
