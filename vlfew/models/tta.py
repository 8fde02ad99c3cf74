"""Test-time augmentation: an image is encoded together with its flips and rotations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vlfew.core.config import TestTimeAugmentation

NUM_VIEWS: dict[TestTimeAugmentation, int] = {"none": 1, "hflip": 2, "rot90": 4, "d4": 8}
"""Number of views of an image, the image itself included."""


def augmented_views(images: Tensor, tta: TestTimeAugmentation) -> list[Tensor]:
    """The views of a batch of images, the images themselves first.

    Args:
        images: `[B, C, H, W]`.
        tta: which views: `hflip` adds the mirror image, `rot90` the quarter turns, `d4` both.
    """
    if tta == "none":
        return [images]
    if tta == "hflip":
        return [images, images.flip(3)]
    rotations = [images, *(images.rot90(k, (2, 3)) for k in (1, 2, 3))]
    return rotations if tta == "rot90" else [*rotations, *(view.flip(3) for view in rotations)]


def concatenate_views(views: Sequence[Tensor], *, normalize: bool, sides: int) -> Tensor:
    """Joins the embeddings of V views, each `[B, sides * D]`, to `[B, sides * V * D]`.

    Args:
        views: embeddings of each view.
        normalize: each to unit length, so that the cosine of the joined embeddings is the mean over views.
        sides: 2 for the embeddings of a pseudo-Siamese model, `[left, right]`; all left ones then come first.
    """
    by_side = zip(*(view.chunk(sides, dim=1) for view in views), strict=True)
    parts = [part for side in by_side for part in side]
    return torch.cat([functional.normalize(part, dim=1) for part in parts] if normalize else parts, dim=1)
