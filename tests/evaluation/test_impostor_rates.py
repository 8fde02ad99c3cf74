"""Error rates of impostors against loops over thresholds and over galleries."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfew.core.errors import DataError
from vlfew.evaluation.impostor_rates import (
    far_curve,
    fpir_curve,
    fpir_of_far,
    fpir_thresholds,
    largest_gallery,
    measured_far,
    measured_fpir,
)
from vlfew.evaluation.trials import Trials, trials_from_scores


def grid(scores: list[list[float]], enrolled_probes: int = 0) -> Trials:
    """Trials of probes with templates 0..N-1; the first probes are of those identities, the others of strangers."""
    matrix = np.array(scores)
    who = [n if n < enrolled_probes else 100 + n for n in range(len(matrix))]
    return trials_from_scores(matrix, who, np.arange(matrix.shape[1]), np.full(len(matrix), np.nan))


def fpir_by_galleries(trials: Trials, threshold: float, size: int) -> float:
    """Every gallery of so many templates, one after the other."""
    shares = []
    for probe in np.unique(trials.probe):
        scores = trials.scores[trials.probe == probe].tolist()
        galleries = list(combinations(scores, size))
        shares.append(sum(max(gallery) >= threshold for gallery in galleries) / len(galleries))
    return sum(shares) / len(shares)


levels = st.integers(0, 5).map(lambda n: n / 5)
matrices = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(levels, min_size=n, max_size=n), min_size=2, max_size=6)
)


@given(matrices, st.floats(0.01, 0.99))
def test_the_lowest_threshold_with_at_most_the_rate(scores: list[list[float]], rate: float) -> None:
    trials = grid(scores)
    threshold = far_curve(trials).threshold(rate)
    candidates = sorted({*trials.scores.tolist(), *np.nextafter(trials.scores, np.inf).tolist()})
    allowed = [t for t in candidates if (trials.scores >= t).mean() <= rate + 1e-9]
    assert threshold == min(allowed)
    assert far_curve(trials).at(threshold) == pytest.approx(measured_far(trials, threshold))


@given(matrices, st.data())
def test_fpir_is_the_mean_over_all_galleries(scores: list[list[float]], data: st.DataObject) -> None:
    enrolled = data.draw(st.integers(0, 1))
    trials = grid(scores, enrolled)
    size = data.draw(st.integers(1, largest_gallery(trials)))
    curve = fpir_curve(trials, size)
    for threshold in [*trials.scores.tolist(), -1.0, 2.0, 0.5]:
        expected = fpir_by_galleries(trials, threshold, size)
        assert measured_fpir(trials, threshold, size) == pytest.approx(expected)
        assert curve.at(threshold) == pytest.approx(expected)
    rate = data.draw(st.floats(0.01, 0.99))
    threshold = curve.threshold(rate)
    candidates = {*trials.scores.tolist(), *np.nextafter(trials.scores, np.inf).tolist()}
    assert threshold == min(t for t in candidates if fpir_by_galleries(trials, t, size) <= rate + 1e-9)
    assert fpir_curve(trials, size, most=rate).threshold(rate) == threshold


@given(matrices)
def test_rates_rise_with_the_gallery_and_fall_with_the_threshold(scores: list[list[float]]) -> None:
    trials = grid(scores)
    sizes = range(1, largest_gallery(trials) + 1)
    for threshold in np.unique(trials.scores):
        rates = [measured_fpir(trials, threshold, size) for size in sizes]
        assert rates == sorted(rates)
        assert rates[0] == pytest.approx(measured_far(trials, threshold))
        # Clusters of false accepts can only lower the rate of a gallery below that of independent ones.
        without_replacement = fpir_of_far(rates[0], sizes[-1])
        assert rates[-1] <= without_replacement + 1e-9 or rates[-1] <= min(1, rates[0] * sizes[-1]) + 1e-9
    thresholds = sorted(np.unique(trials.scores))
    by_threshold = [measured_fpir(trials, t, sizes[-1]) for t in thresholds]
    assert by_threshold == sorted(by_threshold, reverse=True)
    assert (np.diff(fpir_curve(trials, sizes[-1]).reached) >= -1e-12).all()


def test_the_rule_of_independence_and_its_inverse() -> None:
    assert fpir_of_far(0.01, 2) == pytest.approx(1 - 0.99**2)
    assert fpir_of_far(fpir_of_far(0.003, 70), 1 / 70) == pytest.approx(0.003)
    assert fpir_of_far(1.0, 5) == 1 and fpir_of_far(0.0, 5) == 0


def test_a_gallery_larger_than_the_templates_is_refused() -> None:
    trials = grid(np.random.default_rng(0).random((4, 3)).tolist(), enrolled_probes=1)
    assert largest_gallery(trials) == 2
    with pytest.raises(DataError, match=r"compared with 2 templates.* gallery of 3"):
        fpir_curve(trials, 3)
    with pytest.raises(DataError, match="only extrapolated"):
        measured_fpir(trials, 0.5, 3)


def test_no_impostors() -> None:
    empty = Trials(*(np.empty(0) for _ in range(4)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no impostor trial"):
        far_curve(empty)


def test_thresholds_for_larger_galleries() -> None:
    """Independent normal scores: the exact threshold is a quantile, and beyond the data it is near it."""
    from scipy.stats import norm

    scores = np.random.default_rng(1).normal(size=(3000, 100))
    sizes = [1, 10, 100, 500, 2000, 10**6]
    found = fpir_thresholds(grid(scores.tolist()), 0.05, sizes)
    assert [extrapolated for _, extrapolated in found] == [False, False, False, True, True, True]
    exact = [norm.isf(fpir_of_far(0.05, 1 / size)) for size in sizes]
    values = [value for value, _ in found]
    assert values == sorted(values)
    assert values[:5] == pytest.approx(exact[:5], rel=0.04)
    # An exponential tail is heavier than a normal one: the threshold is higher, on the safe side.
    assert exact[5] < values[5] < 1.5 * exact[5]


def test_larger_galleries_by_blocks_come_closer_than_by_independence() -> None:
    """Strangers differ in how much they look like others; 60 templates are known, and 240 will be enrolled."""
    target, known, size = 0.1, 60, 240
    blocks, independent = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        of_probe, of_template = rng.normal(size=1500), rng.normal(size=known + 400)
        scores = of_probe[:, None] + 0.5 * of_template + rng.normal(size=(1500, known + 400))
        own, later = grid(scores[:500, :known].tolist()), grid(scores[500:, known:].tolist())
        ((by_blocks, extrapolated),) = fpir_thresholds(own, target, [size])
        assert extrapolated
        by_independence = far_curve(own).threshold(fpir_of_far(target, 1 / size))
        blocks.append(measured_fpir(later, by_blocks, size))
        independent.append(measured_fpir(later, by_independence, size))
    assert abs(np.mean(blocks) - target) < abs(np.mean(independent) - target) / 2
    assert (
        np.mean(independent) < target
    )  # a threshold that is too high is the safe side, at the price of rejections
