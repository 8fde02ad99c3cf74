"""Thresholds and error rates against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfew.core.errors import DataError
from vlfew.evaluation.roc import (
    area_under,
    best_threshold,
    equal_error_rate,
    false_accept_threshold,
    operating_points,
    tar_curve,
)
from vlfew.evaluation.statistics import FAR_GRID

# Few distinct values, so that ties are common.
SCORED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({same for _, same in rows}) == 2
)


def arrays(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(s) for s, _ in rows]) / 7, np.array([same for _, same in rows])


def accuracy(scores: np.ndarray, same: np.ndarray, threshold: float) -> float:
    return sum((s >= threshold) == t for s, t in zip(scores, same, strict=True)) / len(same)


@given(SCORED)
def test_the_best_threshold_is_a_score_and_no_other_is_better(rows: list[tuple[int, bool]]) -> None:
    scores, same = arrays(rows)
    chosen = best_threshold(scores, same)
    assert chosen in scores
    assert accuracy(scores, same, chosen) == max(accuracy(scores, same, t) for t in scores)


@given(SCORED)
def test_area_is_the_probability_of_a_correct_order(rows: list[tuple[int, bool]]) -> None:
    scores, same = arrays(rows)
    wins = [(p > n) + (p == n) / 2 for p in scores[same] for n in scores[~same]]
    assert area_under(scores, same) == pytest.approx(np.mean(wins), abs=1e-12)


def test_area_does_not_squash_scores() -> None:
    scores = np.array([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3])
    assert area_under(scores, np.array([False, True, False, True])) == 0.75


@given(SCORED)
def test_operating_points_by_counting(rows: list[tuple[int, bool]]) -> None:
    scores, same = arrays(rows)
    for threshold, far, tar in zip(*operating_points(scores, same), strict=True):
        passed = [s >= threshold for s in scores]
        assert far == sum(p for p, t in zip(passed, same, strict=True) if not t) / sum(~same)
        assert tar == sum(p for p, t in zip(passed, same, strict=True) if t) / sum(same)


@given(SCORED)
def test_the_curve_never_exceeds_its_false_accept_rate(rows: list[tuple[int, bool]]) -> None:
    scores, same = arrays(rows)
    _, far, tar = operating_points(scores, same)
    for rate, found in zip(FAR_GRID, tar_curve(scores, same), strict=True):
        assert found == max(t for f, t in zip(far, tar, strict=True) if f <= rate + 1e-12)


def test_equal_error_rate_between_points() -> None:
    # Points (FAR, FRR): (0, 1), (0, .5), (.5, .5): they cross where FAR = FRR = .5 is reached.
    assert equal_error_rate(np.array([4.0, 3, 2, 1]), np.array([True, False, True, False])) == 0.5
    # (0, 1/3) to (1, 1/3) crosses the diagonal at 1/3.
    scores, same = np.array([5.0, 4, 3, 2]), np.array([True, True, False, True])
    assert equal_error_rate(scores, same) == pytest.approx(1 / 3)
    assert equal_error_rate(np.array([2.0, 1]), np.array([True, False])) == 0
    assert equal_error_rate(np.array([1.0, 2]), np.array([True, False])) == 1


@given(SCORED)
def test_equal_error_rate_lies_on_the_curve(rows: list[tuple[int, bool]]) -> None:
    scores, same = arrays(rows)
    _, far, tar = operating_points(scores, same)
    steps = np.linspace(0, 1, 501)
    line_far, line_frr = [], []
    for a in range(len(far) - 1):
        line_far.append(far[a] + steps * (far[a + 1] - far[a]))
        line_frr.append(1 - tar[a] - steps * (tar[a + 1] - tar[a]))
    found, missed = np.concatenate(line_far), np.concatenate(line_frr)
    nearest = found[np.argmin(abs(found - missed))]
    assert equal_error_rate(scores, same) == pytest.approx(nearest, abs=5e-3)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.sampled_from([0.5, 0.1, 0.05, 0.02]))
def test_no_more_false_accepts_than_allowed(negatives: list[int], target: float) -> None:
    values = np.array(negatives, dtype=float)
    allowed = math.floor(round(target * len(values), 9))
    if allowed < 1:
        with pytest.raises(DataError, match=f"{math.ceil(round(1 / target, 9))} are needed"):
            false_accept_threshold(values, target)
        return
    threshold = false_accept_threshold(values, target)
    assert (values >= threshold).sum() <= allowed
    # No lower threshold among the scores would do.
    lower = [v for v in values if v < threshold]
    if lower:
        assert (values >= max(lower)).sum() > allowed


def test_a_rate_of_one_in_a_thousand_of_three_thousand_allows_three() -> None:
    assert (np.arange(3000.0) >= false_accept_threshold(np.arange(3000.0), 0.001)).sum() == 3
