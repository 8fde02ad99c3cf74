"""Large margins by a multiplied angle: L-Softmax (Liu et al. 2016) and SphereFace (Liu et al. 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlfew.core.checks import check_at_least, check_range
from vlfew.losses.base import LossContext
from vlfew.losses.class_weights import AngularSoftmax


def phi(cosine: Tensor, m: int) -> Tensor:
    """`(-1)^k cos(m theta) - 2k` for theta in `[k pi / m, (k + 1) pi / m]`, from `cos theta`.

    Falls from 1 to 1 - 2m over all angles (Liu et al. 2016, eq. 6). `cos(m theta)` is Chebyshev's
    polynomial of `cos theta` and k a count of bounds passed: no arc cosine, whose slope is infinite at
    both ends.
    """
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(m - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    k = sum(
        ((cosine < math.cos(i * math.pi / m)).to(cosine.dtype) for i in range(1, m)),
        start=torch.zeros_like(cosine),
    )
    return (1 - 2 * (k % 2)) * multiple - 2 * k


class MultipliedAngle(AngularSoftmax):
    """`(lambda cos(theta) + phi(theta)) / (1 + lambda)` for the own class, lambda annealed.

    The default lambdas are those that the authors published with SphereFace, 1,000 falling to 5.

    Args:
        trained: gives D and C.
        m: how many times the angle is taken.
        lambda_start: lambda at first, when hardly any image is at a small angle to its class and phi
            alone gives no direction.
        lambda_end: lambda in the end; 0 is phi alone.
        anneal: the share of the term's part of the training over which `1 / (1 + lambda)`, the share
            of phi, grows evenly from one to the other.

    Raises:
        ConfigError: m below 1, a lambda below 0 or growing, anneal not from 0 to 1.
    """

    def __init__(
        self,
        trained: LossContext,
        *,
        m: int = 4,
        lambda_start: float = 1000.0,
        lambda_end: float = 5.0,
        anneal: float = 0.5,
    ) -> None:
        super().__init__(trained)
        check_at_least("m", m)
        check_range("lambda_start", lambda_start, 0)
        check_range("lambda_end", lambda_end, 0, lambda_start)
        check_range("anneal", anneal, 0, 1)
        self.m, self.anneal = m, anneal
        self.first, self.last = 1 / (1 + lambda_start), 1 / (1 + lambda_end)

    def share(self, progress: float) -> float:
        """`1 / (1 + lambda)` after a share of the training."""
        done = 1.0 if progress >= self.anneal else progress / self.anneal
        return self.first + done * (self.last - self.first)

    def with_margin(self, cosine: Tensor, progress: float) -> Tensor:
        share = self.share(progress)
        return (1 - share) * cosine + share * phi(cosine, self.m)


class LSoftmax(MultipliedAngle):
    """Liu, Wen, Yu and Yang 2016, eq. 4 to 6: logits `|w| |x| cos(theta)`, the own class's with phi.

    phi alone from the first step (`lambda_start: 0`) is the paper's formula and hard to train: blending
    with the plain cosine is its authors' cure (section 4.3). With an m of 1 it is the plain softmax
    without a bias.
    """

    def length(self, x: Tensor) -> Tensor:
        return x.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)


class SphereFace(MultipliedAngle):
    """Liu, Wen, Yu, Li, Raj and Song 2017, eq. 7 (A-Softmax): L-Softmax with classes of length 1.

    Only the angle decides between classes then, so the embedding is compared by cosine.
    """

    def length(self, x: Tensor) -> Tensor:
        return x.norm(dim=1, keepdim=True)
