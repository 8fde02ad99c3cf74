"""ArcFace (Deng et al. 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlfew.core.checks import check_range
from vlfew.losses.base import LossContext
from vlfew.losses.margin_softmax import AdditiveMarginLoss


class ArcFaceLoss(AdditiveMarginLoss):
    """Softmax over `s cos(theta)`, with `s cos(theta + m)` for the own class (Deng et al. 2019, eq. 3).

    For theta > pi - m, where the cosine would rise again, it is `s (cos(theta) - m sin(m))`, so that a larger angle
    always costs more. The "easy margin" (no margin for angles over pi / 2) is not used: it spares the images that are
    farthest off.

    Args:
        context: gives D and C.
        s: factor of the cosines; see CosFace for its choice.
        m: margin of the angle in radians; 0.5 in the paper.

    Raises:
        ConfigError: s not above 0, m not from 0 to pi / 2.
    """

    def __init__(self, context: LossContext, *, s: float = 64.0, m: float = 0.5) -> None:
        super().__init__(context, s)
        check_range("m", m, 0, math.pi / 2)
        self.m = m

    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        # The square root has an infinite slope at 0: an image on its class vector would give a NaN gradient.
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
        shifted = cosine * math.cos(self.m) - sine * math.sin(self.m)
        return torch.where(cosine >= -math.cos(self.m), shifted, cosine - self.m * math.sin(self.m))
