"""CosFace (Wang et al. 2018)."""

from __future__ import annotations

from torch import Tensor

from vlfew.core.checks import check_range
from vlfew.losses.base import LossContext
from vlfew.losses.margin_softmax import AdditiveMarginLoss


class CosFaceLoss(AdditiveMarginLoss):
    """Softmax over `s cos(theta)`, with `s (cos(theta) - m)` for the own class (Wang et al. 2018, eq. 4).

    Args:
        context: gives D and C.
        s: the paper's 64 is for many thousand classes; to reach probability P for the right one of C classes, at
            least `(C - 1) / C * log((C - 1) P / (1 - P))` is needed (eq. 6).
        m: margin of the cosine; 0.35 in the paper.

    Raises:
        ConfigError: s not above 0, m not from 0 to 1.
    """

    def __init__(self, context: LossContext, *, s: float = 64.0, m: float = 0.35) -> None:
        super().__init__(context, s)
        check_range("m", m, 0, 1)
        self.m = m

    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        return cosine - self.m
