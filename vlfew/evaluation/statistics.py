"""Means, intervals and tests of differences, in float64, over SciPy's distribution functions.

Intervals are Student's for any number of values. (Until SciPy was used, those of more than 31 values took the normal
distribution's 1.96: up to 4% narrower at 32 values, 0.1% at 1,000.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit  # scipy.stats would take another second to import

Floats = NDArray[np.float64]

FAR_GRID = np.logspace(-3, 0, 61)
"""False-accept (and false-positive identification) rates at which curves are drawn."""
EXACT = 20
"""Up to this many differences, the test tries all their signs."""


def student_quantile(degrees: int) -> float:
    """Standard errors in half a 95% interval, by Student's t; those of the normal distribution for no degrees."""
    return float(stdtrit(degrees if degrees > 0 else np.inf, 0.975))


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of the values, with ddof 1; None for a single value."""
    n = len(values)
    return float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None


def half_interval(error: float | None, count: int) -> float | None:
    """Half width of the 95% interval by Student's t, of a standard error over `count` values; None without one."""
    return None if error is None else student_quantile(count - 1) * error


def mean_ci95(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half width of its 95% interval by Student's t; None for a single value."""
    mean = math.fsum(values) / len(values)  # exactly rounded: the same however the values are ordered
    return mean, half_interval(standard_error(values), len(values))


def cluster_error(correct: Sequence[float], total: Sequence[float]) -> float | None:
    """Standard error of `sum(correct) / sum(total)` when answers come in clusters; None for a single cluster.

    Answers of one cluster (images of a class) depend on each other; clusters do not. The linearized variance
    of a ratio (Cochran 1977, equation 6.13), `C/(C-1) sum (r_c - p n_c)^2 / n^2`. For clusters of one size it
    is the standard error of their mean.

    Args:
        correct: `[C]` correct answers in each cluster.
        total: `[C]` answers in each cluster.
    """
    clusters, answers = len(total), math.fsum(total)
    if clusters == 1:
        return None
    share = math.fsum(correct) / answers
    squares = math.fsum((r - share * n) ** 2 for r, n in zip(correct, total, strict=True))
    return math.sqrt(clusters / (clusters - 1) * squares) / answers


def cluster_ci95(correct: Sequence[float], total: Sequence[float]) -> float | None:
    """Half width of the 95% interval of `sum(correct) / sum(total)`; see `cluster_error`."""
    return half_interval(cluster_error(correct, total), len(total))


def mean_curve(curves: Floats, far: Floats = FAR_GRID) -> dict[str, list[float]]:
    """The mean of ROC curves over folds, with one standard error on either side, for plots.

    Args:
        curves: `[folds, P]` true-accept rates.
        far: `[P]` false-accept rates.
    """
    mean = curves.mean(axis=0)
    curve = {"far": far.tolist(), "tar": mean.tolist()}
    if len(curves) > 1:
        error = curves.std(axis=0, ddof=1) / math.sqrt(len(curves))
        curve |= {"low": (mean - error).clip(0).tolist(), "high": (mean + error).clip(max=1).tolist()}
    return curve


@dataclass(frozen=True)
class Difference:
    """How much higher the second accuracy is than the first.

    Attributes:
        mean: a fraction.
        ci95: half width of its 95% interval; None where a single episode gives none.
        p: p-value of the two-sided test that there is no difference; None where there is no interval.
    """

    mean: float
    ci95: float | None
    p: float | None


def paired_difference(first: Floats, second: Floats) -> Difference:
    """The mean difference over episodes that both were evaluated on.

    Interval and test are Student's, unless at most `EXACT` episodes differ: then the test is an exact
    permutation test over all signs, which assumes nothing about the distribution of the differences.

    Args:
        first: `[E]` accuracies of the episodes.
        second: `[E]` accuracies of the same episodes.
    """
    differences = second - first
    mean, ci95 = mean_ci95(differences.tolist())
    if ci95 is None:
        return Difference(mean, None, None)
    nonzero = differences[differences != 0]
    if len(nonzero) <= EXACT:
        p = sign_flip_p(nonzero)
    else:
        error = standard_error(differences.tolist())
        p = float(2 * stdtr(len(differences) - 1, -abs(mean) / error)) if error else 0.0
    return Difference(mean, ci95, p)


def unpaired_difference(
    first: float, first_ci95: float | None, second: float, second_ci95: float | None
) -> Difference:
    """The difference of two accuracies with independent errors; the test is normal.

    Only the intervals of published or saved results are known, not how many values they are over, so that
    Welch's degrees of freedom are not.

    Args:
        first: an accuracy.
        first_ci95: half width of its 95% interval; None where there is none.
        second: another accuracy.
        second_ci95: half width of its 95% interval; None where there is none.
    """
    mean = second - first
    if not (first_ci95 and second_ci95):  # an interval without width says nothing about other episodes
        return Difference(mean, None, None)
    ci95 = math.hypot(first_ci95, second_ci95)
    return Difference(mean, ci95, float(2 * ndtr(-student_quantile(0) * abs(mean) / ci95)))


def sign_flip_p(differences: Floats) -> float:
    """Share of all assignments of signs to the differences whose sum is at least as far from zero as theirs.

    The two-sided exact permutation test for paired samples: `scipy.stats.permutation_test(permutation_type=
    "samples")` gives the same, but takes a minute for 2^20 assignments, and misses ties of rounded sums.

    Args:
        differences: `[n]`; there are `2^n` assignments.
    """
    sums = np.abs(differences[:1])  # flipping all signs changes no distance: the first one's stays
    for size in np.abs(differences[1:]):
        sums = np.concatenate([sums + size, sums - size])
    # Sums are rounded: one that equals the observed one must count whichever way it was rounded.
    slack = 1e-12 * float(np.abs(differences).sum())
    return float((np.abs(sums) >= abs(float(differences.sum())) - slack).mean()) if len(sums) else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in their order (Holm 1979; SciPy has none).

    The k-th smallest of m is multiplied by m + 1 - k, is no smaller than those before it, and at most 1.
    """
    order = np.argsort(ps, kind="stable")
    corrected = np.empty(len(ps))
    corrected[order] = np.maximum.accumulate(
        np.asarray(ps, np.float64)[order] * (len(ps) - np.arange(len(ps)))
    )
    return np.minimum(corrected, 1.0).tolist()
