"""How often impostors are accepted, by threshold: in one comparison, and by a gallery of N identities.

FAR is the share of impostor trials with a score at or above the threshold. FPIR is the share of probes of
people who are not enrolled that reach the threshold with any of N templates. With independent trials it would
be `1 - (1 - FAR)^N`; but some people look like many others, so that false accepts come in clusters and the
FPIR is lower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from vlfew.core.errors import DataError
from vlfew.evaluation.trials import Floats, Ints, Trials

SLACK = 1 + 1e-9
"""Sums of rates are rounded: a rate that equals the allowed one must count as allowed."""


@dataclass(frozen=True, eq=False)
class RateCurve:
    """The rate that each threshold gives.

    Attributes:
        scores: `[M]` float64, descending; where all scores of a tail are left out, the lowest ones.
        reached: `[M]` rate when this score and all before it are accepted, ascending.
    """

    scores: Floats
    reached: Floats

    def at(self, threshold: float) -> float:
        """The rate at a threshold."""
        accepted = int(np.searchsorted(-self.scores, -threshold, side="right"))
        return float(self.reached[accepted - 1]) if accepted else 0.0

    def threshold(self, rate: float) -> float:
        """The lowest threshold with at most this rate: just above the first score that must not be accepted.

        Scores that are equal are accepted together or not at all. If everything may be accepted, it is the
        lowest score.
        """
        refused = int(np.searchsorted(self.reached, rate * SLACK, side="right"))
        if refused == len(self.scores):
            return float(self.scores[-1])
        return float(np.nextafter(self.scores[refused], np.inf))


def fpir_of_far(far: float, gallery_size: float) -> float:
    """`1 - (1 - FAR)^N`: the FPIR with N enrolled if all trials were independent."""
    return 1.0 if far >= 1 else -math.expm1(gallery_size * math.log1p(-far))


def far_curve(impostors: Trials) -> RateCurve:
    """FAR as a function of the threshold.

    Args:
        impostors: trials of different identities.

    Raises:
        DataError: there is none.
    """
    if not len(impostors):
        raise DataError(
            "there is no impostor trial: enroll two identities or more, or add images of other people"
        )
    scores = np.sort(impostors.scores)[::-1]
    return RateCurve(scores, np.arange(1, len(scores) + 1) / len(scores))


def largest_gallery(impostors: Trials) -> int:
    """The number of templates that every probe meets: the largest gallery whose FPIR can be measured."""
    return int(impostors.probes[2].min())


def measured_far(impostors: Trials, threshold: float) -> float:
    """Share of impostor trials at or above a threshold."""
    return float((impostors.scores >= threshold).mean())


def measured_fpir(impostors: Trials, threshold: float, gallery_size: int) -> float:
    """FPIR of one threshold; see `fpir_curve`."""
    _, inverse, met = impostors.probes
    _check_gallery_size(met, gallery_size)
    hits = np.bincount(inverse[impostors.scores >= threshold], minlength=len(met))
    rejected = {n: rejected_share(n, gallery_size) for n in np.unique(met).tolist()}
    return float(np.mean([1 - rejected[n][k] for n, k in zip(met.tolist(), hits.tolist(), strict=True)]))


def fpir_curve(impostors: Trials, gallery_size: int, most: float = 1.0) -> RateCurve:
    """FPIR as a function of the threshold, averaged over all galleries of N of the templates that a probe meets.

    Nothing is drawn: of the `C(n, N)` galleries that can be made of the n templates of other people, the
    share in which a probe that k of them accept is rejected is `C(n - k, N) / C(n, N)`. As thresholds fall,
    the k-th template of a probe to accept it raises the FPIR by the difference from k - 1 to k. Probes of
    people who are enrolled count as well, with the galleries in which they are not. Every probe counts the
    same.

    Args:
        impostors: trials of different identities.
        gallery_size: N, at most `largest_gallery`.
        most: thresholds with a higher FPIR than this may be left out, which saves time.

    Raises:
        DataError: a probe meets fewer than N templates.
    """
    return _fpir_curves(impostors, [gallery_size], most)[0]


def _fpir_curves(impostors: Trials, sizes: Sequence[int], most: float) -> list[RateCurve]:
    """`fpir_curve` of several sizes, over the same scores."""
    _, inverse, met = impostors.probes
    _check_gallery_size(met, max(sizes))
    tail = np.arange(len(impostors))
    if most < 1 and (kept := math.ceil(most * len(impostors)) + 1) < len(impostors):
        # Where all probes meet as many templates, the FPIR is no lower than the FAR.
        lowest = np.partition(impostors.scores, -kept)[-kept]
        tail = np.flatnonzero(impostors.scores >= lowest)
    scores, of = impostors.scores[tail], inverse[tail]
    by_probe = np.lexsort((-scores, of))
    scores, of = scores[by_probe], of[by_probe]
    rank, descending = rank_within(of), np.argsort(-scores, kind="stable")
    curves = []
    for size in sizes:
        raised = np.empty(len(scores))
        for n in np.unique(met):
            here, rejected = met[of] == n, rejected_share(int(n), size)
            raised[here] = rejected[rank[here]] - rejected[rank[here] + 1]
        curves.append(RateCurve(scores[descending], np.cumsum(raised[descending]) / len(met)))
    if len(tail) < len(impostors) and min(curve.reached[-1] for curve in curves) <= most * SLACK:
        return _fpir_curves(impostors, sizes, 1.0)
    return curves


def fpir_thresholds(impostors: Trials, fpir: float, sizes: Sequence[int]) -> list[tuple[float, bool]]:
    """The lowest thresholds with at most this FPIR in galleries of several sizes, ascending.

    Up to `largest_gallery`, n, the FPIR is measured. Beyond, `-log(1 - FPIR)`, which grows like N if trials are
    independent and more slowly if some people look like many others, is continued as the power of N by which it
    grows from n/2 to n. Rates below those of three probes are past the data; there the logarithm of the rate is
    continued as a straight line in the score, whose slope is that of the 30 highest probes (an
    exponential tail: the generalized Pareto distribution of extreme values with shape 0; Coles 2001, chapter 4).

    Args:
        impostors: trials of different identities.
        fpir: a rate at least that of three probes.
        sizes: numbers of enrolled identities, ascending.

    Returns:
        For each size, the threshold, and whether it is extrapolated.
    """
    largest, probes = largest_gallery(impostors), len(impostors.probes[0])
    measured, larger = [s for s in sizes if s <= largest], [s for s in sizes if s > largest]
    most = max(fpir, min(1.0, 30 / probes))
    *curves, half, whole = _fpir_curves(impostors, [*measured, max(1, largest // 2), largest], most)
    found = [(curve.threshold(fpir), False) for curve in curves]
    for size in larger:
        threshold = _extrapolated(half, whole, largest, size).threshold(fpir)
        at_largest = whole.at(threshold)
        if at_largest < 3 / probes:
            rate = fpir_of_far(fpir, largest / size)
            threshold = max(threshold, _exponential_tail(whole, 30 / probes, rate))
        found.append((threshold, True))
    # A larger gallery accepts no fewer strangers.
    lowest = np.maximum.accumulate([value for value, _ in found]).tolist()
    return [(value, extrapolated) for value, (_, extrapolated) in zip(lowest, found, strict=True)]


def _extrapolated(half: RateCurve, whole: RateCurve, largest: int, size: int) -> RateCurve:
    """The curve for a larger gallery, from those for the largest that is measured and for half of it."""
    if largest == 1:
        return RateCurve(whole.scores, -np.expm1(size * np.log1p(-whole.reached.clip(max=1 - 1e-12))))
    grown, before = (-np.log1p(-curve.reached.clip(max=1 - 1e-12)) for curve in (whole, half))
    power = np.log(grown / before) / math.log(largest / (largest // 2))
    expected = grown * (size / largest) ** power.clip(0, 1)
    return RateCurve(whole.scores, np.maximum.accumulate(-np.expm1(-expected)))


def _exponential_tail(curve: RateCurve, known: float, rate: float) -> float:
    """The threshold for a rate below all data, from the mean excess over the threshold for a known rate."""
    start = curve.threshold(min(1.0, known))
    above = curve.scores >= start
    weights = np.diff(curve.reached, prepend=0.0)[above]
    excess = float(weights @ (curve.scores[above] - start) / weights.sum()) if weights.any() else 0.0
    return start + excess * math.log(float(weights.sum()) / rate) if weights.any() else start


def _check_gallery_size(met: Ints, gallery_size: int) -> None:
    if gallery_size > met.min():
        raise DataError(
            f"a probe is compared with {met.min():,} templates; the rate in a gallery of {gallery_size:,} "
            "cannot be measured, only extrapolated"
        )


def rank_within(groups: Ints) -> Ints:
    """Position `[M]`, from 0, of each element of sorted groups `[M]` within its own."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def rejected_share(templates: int, gallery_size: int) -> Floats:
    """`[n + 1]`: share of galleries of N of n templates that have none of k certain ones, for k from 0 to n."""
    k = np.arange(templates + 1)
    possible = k <= templates - gallery_size
    left = np.where(possible, templates - k, gallery_size)

    def log_galleries(of: Ints) -> Floats:
        return np.asarray(gammaln(of + 1) - gammaln(of - gallery_size + 1))

    return np.where(possible, np.exp(log_galleries(left) - log_galleries(np.array(templates))), 0.0)
