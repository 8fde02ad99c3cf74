"""L-Softmax (Liu, Wen, Yu and Yang 2016)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlfew.core.checks import check_at_least, check_range
from vlfew.losses.base import LossContext
from vlfew.losses.margin_softmax import MarginSoftmaxLoss


def phi(cosine: Tensor, m: int) -> Tensor:
    """`(-1)^k cos(m theta) - 2k` for theta in `[k pi / m, (k + 1) pi / m]` (Liu et al. 2016, eq. 6), from `cos theta`.

    It falls from 1 to 1 - 2m. `cos(m theta)` is Chebyshev's polynomial of `cos theta`, and k counts thresholds of the
    cosine: the arc cosine, whose slope is infinite at both ends, is not needed.
    """
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(m - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    k = torch.zeros_like(cosine)
    for i in range(1, m):
        k = k + (cosine < math.cos(i * math.pi / m)).to(cosine.dtype)
    return (1 - 2 * (k % 2)) * multiple - 2 * k


class LSoftmaxLoss(MarginSoftmaxLoss):
    """Softmax over `|w| |x| cos(theta)`, with a multiplied angle for the own class (Liu et al. 2016, eq. 4 to 6).

    The own class's cosine becomes `(lambda cos(theta) + phi(theta)) / (1 + lambda)`, with lambda annealed as in the
    authors' implementation (section 4.3): `lambda_start: 0` is the paper's formula from the first step, which is hard
    to train. With m = 1 it is the plain softmax without bias. The default lambdas are those of SphereFace.

    Args:
        context: gives D and C.
        m: factor of the angle.
        lambda_start: lambda at the start, when few images are at a small angle to their class.
        lambda_end: lambda at the end; 0 is phi alone.
        anneal: share of the loss's part of the training over which `1 / (1 + lambda)` grows linearly.

    Raises:
        ConfigError: m below 1, a lambda below 0 or growing, anneal not from 0 to 1.
    """

    def __init__(
        self,
        context: LossContext,
        *,
        m: int = 4,
        lambda_start: float = 1000.0,
        lambda_end: float = 5.0,
        anneal: float = 0.5,
    ) -> None:
        super().__init__(context)
        check_at_least("m", m)
        check_range("lambda_start", lambda_start, 0)
        check_range("lambda_end", lambda_end, 0, lambda_start)
        check_range("anneal", anneal, 0, 1)
        self.m, self.anneal = m, anneal
        self.first, self.last = 1 / (1 + lambda_start), 1 / (1 + lambda_end)

    def phi_share(self, progress: float) -> float:
        """`1 / (1 + lambda)` after a share of the training."""
        done = 1.0 if progress >= self.anneal else progress / self.anneal
        return self.first + done * (self.last - self.first)

    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        share = self.phi_share(progress)
        return (1 - share) * cosine + share * phi(cosine, self.m)

    def scale(self, x: Tensor) -> Tensor:
        return x.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)
