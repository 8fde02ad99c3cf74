"""The views of an image: itself, mirrored and turned."""

from __future__ import annotations

from torch import Tensor

from vlfew.core.config import TestTimeAugmentation

TTA_VIEWS: dict[TestTimeAugmentation, int] = {"none": 1, "hflip": 2, "rot90": 4, "d4": 8}
"""How many views of an image each kind has."""


def augmented_views(images: Tensor, tta: TestTimeAugmentation) -> list[Tensor]:
    """The views of `images [B, C, H, W]` besides themselves."""
    if tta == "hflip":
        return [images.flip(3)]
    turned = [images.rot90(turn, (2, 3)) for turn in (1, 2, 3)]
    return turned if tta == "rot90" else [*turned, *(view.flip(3) for view in (images, *turned))]
