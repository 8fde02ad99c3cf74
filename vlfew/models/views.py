"""The views of a picture: itself, mirrored and turned."""

from __future__ import annotations

from torch import Tensor

from vlfew.config import Views

VIEWS: dict[Views, int] = {"one": 1, "mirror": 2, "turns": 4, "symmetries": 8}
"""How many views of a picture each kind has."""


def further_views(images: Tensor, views: Views) -> list[Tensor]:
    """The views of `images [B, C, H, W]` besides themselves."""
    if views == "mirror":
        return [images.flip(3)]
    turned = [images.rot90(turn, (2, 3)) for turn in (1, 2, 3)]
    return turned if views == "turns" else [*turned, *(view.flip(3) for view in (images, *turned))]
