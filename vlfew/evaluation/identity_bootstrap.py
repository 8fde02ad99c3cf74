"""Intervals of error rates by a bootstrap over identities.

Trials share people: one person who looks like many others spoils thousands of impostor trials at once, so
that intervals from the binomial distribution are far too narrow. Here identities are resampled with
replacement, those with a template and those without one each among themselves, and a trial counts as often as
its probe's identity was drawn times as often as its template's (for the same identity drawn twice there is no
impostor trial). This is the vertex bootstrap of Snijders and Borgatti 1999 ("Non-parametric standard errors
and tests for network statistics"); for biometrics, Bolle et al. 2004 ("Error analysis of pattern recognition
systems: the subsets bootstrap") and Fogliato et al. 2024 ("Confidence intervals for error rates in 1:1
matching tasks"). Weights that are products make it conservative where the noise of single trials outweighs
that of identities (Owen 2007, "The pigeonhole bootstrap").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtr

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.evaluation.impostor_rates import (
    SLACK,
    RateCurve,
    far_curve,
    fpir_curve,
    measured_fpir,
    rank_within,
)
from vlfew.evaluation.statistics import student_quantile
from vlfew.evaluation.trials import Floats, Ints, Trials, numbered

RESAMPLES = 1000
TAIL = 2.0
"""Thresholds of resamples are sought where the rate is up to this many times the wanted one, then up to twice that."""


@dataclass(frozen=True)
class Interval:
    """Ends of a 95% interval."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


class IdentityBootstrap:
    """Resamples of the identities of trials.

    Args:
        trials: of at least two identities with templates.
        resamples: R.
        seed: of the draws.

    Raises:
        DataError: one identity, of which nothing can be said about others.
    """

    def __init__(self, trials: Trials, resamples: int = RESAMPLES, seed: int = 0) -> None:
        both = np.concatenate([trials.probe_identity, trials.template_identity])
        self.identities, number = numbered(both)
        self._probe, self._template = number[: len(trials)], number[len(trials) :]
        self.with_template = np.zeros(len(self.identities), bool)
        self.with_template[self._template] = True
        if len(self.identities) < 2:
            raise DataError("one identity says nothing about how much identities differ; two are needed")
        self.trials, self.resamples, self.seed = trials, resamples, seed

    def counts(self, place: str) -> Iterator[Floats]:
        """R times how often each identity was drawn, `[I]`.

        Args:
            place: name of the draws; the same name gives the same ones.
        """
        rng = generator_at(self.seed, "identities", place)
        for _ in range(self.resamples):
            count = np.zeros(len(self.identities))
            for group in (self.with_template, ~self.with_template):
                if size := int(group.sum()):
                    count[group] = rng.multinomial(size, np.full(size, 1 / size))
            yield count

    @cached_property
    def _impostors(self) -> _Impostors:
        chosen = ~self.trials.genuine
        return _Impostors(
            self.trials.impostors, self._probe[chosen], self._template[chosen], len(self.identities)
        )

    def far(self, threshold: float) -> Interval:
        """95% interval of the FAR of a threshold, on the trials that it was chosen on or on others."""
        own = self._impostors
        accepted = np.flatnonzero(own.trials.scores >= threshold)
        p, t = own.probe[accepted], own.template[accepted]
        rates = [
            float(c[p] @ c[t]) / total if (total := own.total(c)) else np.nan for c in self.counts("rate")
        ]
        return self._interval(rates, len(accepted) / len(own.trials), len(self.identities))

    def frr(self, threshold: float) -> Interval:
        """95% interval of the FRR of a threshold."""
        who, scores = self._probe[self.trials.genuine], self.trials.genuine_scores
        tried = np.bincount(who, minlength=len(self.identities))
        rejected = np.bincount(who[scores < threshold], minlength=len(self.identities))
        rates = [
            float(c @ rejected) / total if (total := float(c @ tried)) else np.nan
            for c in self.counts("rate")
        ]
        return self._interval(rates, rejected.sum() / len(who), int((tried > 0).sum()))

    def fpir(self, threshold: float, gallery_size: int) -> Interval:
        """95% interval of the FPIR of a threshold in a gallery of N, at most `largest_gallery`."""
        own = self._impostors
        accepted = np.flatnonzero(own.trials.scores >= threshold)
        number, t = own.number[accepted], own.template[accepted]
        rates = []
        for c in self.counts("rate"):
            share = np.bincount(number, c[t], len(own.who)) / np.maximum(own.met(c), 1)
            rates.append(_mean(1 - (1 - share.clip(max=1)) ** gallery_size, c[own.who]))
        measured = measured_fpir(own.trials, threshold, gallery_size)
        return self._interval(rates, measured, len(np.unique(own.who)))

    def predict(self, rate: float, gallery_size: int | None = None) -> Interval:
        """95% prediction interval: the rate that other people will measure at the threshold that was set for `rate`.

        The other people are as many as these. Each of R times a threshold is set on one resample, by the same
        rule, and measured on another: the interval has the uncertainty of the threshold and that of the
        measurement, which are about the same.

        Args:
            rate: FAR, or FPIR where there is a gallery size.
            gallery_size: N, at most `largest_gallery`; resamples draw its templates with replacement.
        """
        own = self._impostors
        curve = own.curve(rate, gallery_size)
        within = TAIL
        tail = own.tail(curve.threshold(min(1.0, within * rate)))
        measured = []
        for first, second in zip(self.counts("threshold"), self.counts("measurement"), strict=True):
            reached = tail.reached(first, gallery_size)
            while (
                not len(reached) or reached[-1] <= rate * SLACK
            ) and within * rate < 1:  # the tail is too short
                within *= 2
                lowest = curve.threshold(within * rate) if within * rate < curve.reached[-1] else -np.inf
                tail = own.tail(lowest)
                reached = tail.reached(first, gallery_size)
            refused = int(np.searchsorted(reached, rate * SLACK, side="right"))
            accepted = len(reached)
            if refused < len(reached):
                accepted = int(np.searchsorted(-tail.scores, -tail.scores[refused], side="left"))
            measured.append(tail.rate(second, accepted, gallery_size))
        return self._quantiles(np.array(measured))

    def _interval(self, rates: list[float], measured: float, identities: int) -> Interval:
        """Wilson's interval for as many independent trials as have the resamples' variance (Fogliato et al. 2024).

        The quantile is Student's, over identities with templates. Without an error (or a success) resamples
        do not vary; then it is for as many trials as there are identities.
        """
        found = np.array(rates)
        mean = np.nanmean(found) if not np.isnan(found).all() else 0.0
        # Galleries drawn from resamples have some templates twice, so that their rates are a little lower.
        variance = float(np.nanvar(found) * (measured / mean) ** 2) if mean > 0 else 0.0
        between = measured * (1 - measured)
        trials = between / variance if variance > 0 and between > 0 else identities
        z = student_quantile(max(1, int(self.with_template.sum()) - 1))
        center, shrink = measured + z**2 / (2 * trials), 1 + z**2 / trials
        half = z * np.sqrt(between / trials + z**2 / (4 * trials**2))
        return Interval(max(0.0, float((center - half) / shrink)), min(1.0, float((center + half) / shrink)))

    def _quantiles(self, values: Floats) -> Interval:
        """Percentiles, further out for few identities (Hesterberg 2015, "expanded percentile interval")."""
        n = max(2, int(self.with_template.sum()))
        outside = float(ndtr(-np.sqrt(n / (n - 1)) * student_quantile(n - 1)))
        low, high = np.nanquantile(values, [outside, 1 - outside])
        return Interval(float(low), float(min(1.0, high)))


def _mean(values: Floats, weights: Floats) -> float:
    return float(values @ weights / weights.sum()) if weights.any() else np.nan


class _Impostors:
    """Impostor trials with their identities and probes numbered from 0."""

    def __init__(self, trials: Trials, probe: Ints, template: Ints, identities: int) -> None:
        self.trials, self.probe, self.template = trials, probe, template
        first, self.number, _ = trials.probes
        self.who = probe[first]
        """`[P]` identity of each probe."""
        templates = np.zeros(identities)
        templates[template] = 1
        self._templates = templates
        # Usually every probe meets all templates but its own; then nothing needs to be summed over trials.
        self._meets_all = len(trials) == len(self.who) * templates.sum() - templates[self.who].sum()

    @cached_property
    def _met(self) -> csr_matrix:
        shape = len(self.who), len(self._templates)
        return csr_matrix((np.ones(len(self.trials)), (self.number, self.template)), shape=shape)

    def met(self, counts: Floats) -> Floats:
        """`[P]` number of drawn templates that each probe meets."""
        if self._meets_all:
            drawn = counts * self._templates
            return np.asarray(drawn.sum() - drawn[self.who])
        return np.asarray(self._met @ counts)

    def total(self, counts: Floats) -> float:
        """Number of drawn impostor trials."""
        return float(counts[self.who] @ self.met(counts))

    def curve(self, rate: float, gallery_size: int | None) -> RateCurve:
        """The measured rates, down to thresholds with a few times the rate."""
        if gallery_size is None:
            return far_curve(self.trials)
        return fpir_curve(self.trials, gallery_size, most=min(1.0, TAIL * rate))

    def tail(self, threshold: float) -> _Tail:
        """The trials at or above a threshold."""
        return _Tail(self, np.flatnonzero(self.trials.scores >= threshold))


class _Tail:
    """The highest impostor scores, and their rates in a resample."""

    def __init__(self, impostors: _Impostors, chosen: NDArray[np.int64]) -> None:
        chosen = chosen[np.argsort(-impostors.trials.scores[chosen], kind="stable")]
        self._all = impostors
        self.scores = impostors.trials.scores[chosen]
        self._probe, self._template = impostors.probe[chosen], impostors.template[chosen]
        number = impostors.number[chosen]
        self._by_probe = np.argsort(number, kind="stable")
        self._number = number[self._by_probe]
        self._start = np.arange(len(chosen)) - rank_within(self._number) if len(chosen) else chosen

    def rate(self, counts: Floats, accepted: int, gallery_size: int | None) -> float:
        """The rate when the first scores are accepted, so many."""
        if not accepted:
            return 0.0
        if gallery_size is not None:
            return float(self.reached(counts, gallery_size)[accepted - 1])
        hits = counts[self._probe[:accepted]] @ counts[self._template[:accepted]]
        return float(hits / max(self._all.total(counts), 1))

    def reached(self, counts: Floats, gallery_size: int | None) -> Floats:
        """`[M]` rate when this score and all before it are accepted."""
        if gallery_size is None:
            return np.cumsum(counts[self._probe] * counts[self._template]) / max(self._all.total(counts), 1)
        drawn = counts[self._template[self._by_probe]]
        hits = np.cumsum(drawn)
        hits -= (hits - drawn)[self._start]
        met = np.maximum(self._all.met(counts), 1)[self._number]
        before, after = (1 - ((hits - drawn) / met)).clip(0), (1 - hits / met).clip(0)
        who = counts[self._all.who]
        raised = np.empty(len(drawn))
        raised[self._by_probe] = (before**gallery_size - after**gallery_size) * who[self._number]
        return np.cumsum(raised) / max(who.sum(), 1)
