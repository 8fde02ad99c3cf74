"""Large margins by a difference: CosFace (Wang et al. 2018) and ArcFace (Deng et al. 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlfew.core.checks import check_positive, check_range
from vlfew.losses.base import LossContext
from vlfew.losses.class_weights import AngularSoftmax


class AdditiveMargin(AngularSoftmax):
    """Softmax over `s cos(theta)`: embeddings and classes are unit vectors.

    Args:
        trained: gives D and C.
        s: the length that takes the place of both.

    Raises:
        ConfigError: s not above 0.
    """

    def __init__(self, trained: LossContext, s: float) -> None:
        super().__init__(trained)
        check_positive("s", s)
        self.s = s

    def length(self, x: Tensor) -> float:
        return self.s


class CosFace(AdditiveMargin):
    """Wang et al. 2018, eq. 4: `s (cos(theta) - m)` for the own class.

    Args:
        trained: gives D and C.
        s: the paper's 64 is for many thousand classes; to reach the probability P of the right one with
            C classes, `(C - 1) / C * log((C - 1) P / (1 - P))` is the least (eq. 6).
        m: the margin in cosine; the paper's 0.35.

    Raises:
        ConfigError: s not above 0, m not from 0 to 1.
    """

    def __init__(self, trained: LossContext, *, s: float = 64.0, m: float = 0.35) -> None:
        super().__init__(trained, s)
        check_range("m", m, 0, 1)
        self.m = m

    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        return cosine - self.m


class ArcFace(AdditiveMargin):
    """Deng et al. 2019, eq. 3: `s cos(theta + m)` for the own class.

    Beyond theta = pi - m, where the cosine would rise again, it is `s (cos(theta) - m sin(m))`, so that
    a larger angle always costs more. The "easy margin" (none for angles over pi / 2) is not used: the
    images that are farthest off would be those without a margin.

    Args:
        trained: gives D and C.
        s: the paper's 64 is for many thousand classes; see CosFace.
        m: the margin in radians; the paper's 0.5.

    Raises:
        ConfigError: s not above 0, m not from 0 to pi / 2.
    """

    def __init__(self, trained: LossContext, *, s: float = 64.0, m: float = 0.5) -> None:
        super().__init__(trained, s)
        check_range("m", m, 0, math.pi / 2)
        self.m = m

    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        # The root has an infinite slope at 0: an image on its class would give a NaN gradient.
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
        wider = cosine * math.cos(self.m) - sine * math.sin(self.m)
        return torch.where(cosine >= -math.cos(self.m), wider, cosine - self.m * math.sin(self.m))
