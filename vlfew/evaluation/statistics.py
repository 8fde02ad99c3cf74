"""Differences between figures: intervals and tests, on the same episodes or on different ones.

Everything is float64 and plain arithmetic; Student's distribution is summed as a finite series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Z95 = 1.96
"""Standard errors in half a 95% interval, as in `mean_ci95`."""
EXACT = 20
"""Up to so many differences, all their signs are tried: 2^19 sums, since a half mirrors the other."""
NORMAL = 1000
"""Beyond so many degrees of freedom, Student's distribution is the normal one to three digits."""


@dataclass(frozen=True)
class Difference:
    """How much higher the second figure is than the first.

    Attributes:
        mean: a fraction.
        ci95: half width of its 95% interval; None where a single episode gives none.
        p: probability of a difference as large when there is none; None where there is no interval.
    """

    mean: float
    ci95: float | None
    p: float | None


def paired_difference(first: Floats, second: Floats) -> Difference:
    """The mean difference over episodes that both have met.

    The interval is Student's, from the standard error (ddof 1) of the differences. So is the test,
    unless at most `EXACT` episodes differ: then it tries all signs, and supposes nothing about their
    distribution.

    Args:
        first, second: `[E]` accuracies of the same E episodes.
    """
    differences = second - first
    n, mean = len(differences), math.fsum(differences) / len(differences)
    if n == 1:
        return Difference(mean, None, None)
    error = math.sqrt(math.fsum((differences - mean) ** 2) / (n - 1) / n)
    ci95 = student_quantile(n - 1) * error
    moved = differences[differences != 0]
    p = sign_flip_p(moved) if len(moved) <= EXACT else student_p(mean / error if error else math.inf, n - 1)
    return Difference(mean, ci95, p)


def unpaired_difference(first: float, first_ci95: float, second: float, second_ci95: float) -> Difference:
    """The difference of two figures whose errors are taken as independent; the test is normal.

    Args:
        first, second: the figures.
        first_ci95, second_ci95: half widths of their 95% intervals; 0 where there is none.
    """
    mean, ci95 = second - first, math.hypot(first_ci95, second_ci95)
    if not (first_ci95 and second_ci95):
        return Difference(mean, None, None)
    return Difference(mean, ci95, math.erfc(Z95 * abs(mean) / ci95 / math.sqrt(2)))


def sign_flip_p(differences: Floats) -> float:
    """Share of all ways to choose the signs of the differences whose sum is as far from zero as theirs.

    Two-sided and exact: when there is no difference, each episode's could as well be turned round.

    Args:
        differences: `[n]`; there are `2^n` ways.
    """
    sums = np.abs(differences[:1])  # turning all signs changes no distance: the first one's stays
    for size in np.abs(differences[1:]):
        sums = np.concatenate([sums + size, sums - size])
    # The sums are rounded: one that equals the observed one must count whichever way it fell.
    slack = 1e-12 * float(np.abs(differences).sum())
    return float((np.abs(sums) >= abs(float(differences.sum())) - slack).mean()) if len(sums) else 1.0


def student_p(t: float, freedom: int) -> float:
    """Probability that Student's variable is further than `t` from zero.

    Args:
        t: the statistic.
        freedom: degrees of freedom, from 1. Abramowitz & Stegun 1964, equations 26.7.3 and 26.7.4.
    """
    if freedom > NORMAL:
        return math.erfc(abs(t) / math.sqrt(2))
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    terms, term = [], cosine if odd else 1.0
    for k in range(1 + odd, freedom, 2):
        terms.append(term)
        term *= cosine * cosine * k / (k + 1)
    within = sine * math.fsum(terms)
    if odd:
        within = (angle + within) * 2 / math.pi
    return min(max(1 - within, 0.0), 1.0)


def student_quantile(freedom: int) -> float:
    """How far Student's variable is from zero in one case of twenty, by bisection."""
    low, high = Z95 - 0.001, 13.0  # a normal variable's; that of one degree of freedom
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 0.05 else (low, middle)
    return high


def holm(ps: Sequence[float]) -> list[float]:
    """Values of `p` corrected for there being many of them, in their order.

    Those below 0.05 are wrong together, not each, in at most one case of twenty (Holm 1979): the k-th
    smallest of m is multiplied by m + 1 - k, is no smaller than the ones before it, and at most 1.
    """
    corrected, least = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = least
    return corrected
