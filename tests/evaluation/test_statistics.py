"""Intervals, differences and their tests, by plain loops and by scipy."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vlfew.evaluation.statistics import (
    EXACT,
    cluster_ci95,
    holm,
    mean_ci95,
    paired_difference,
    sign_flip_p,
    standard_error,
    student_quantile,
    unpaired_difference,
)

ACCURACIES = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@given(st.lists(st.tuples(ACCURACIES, ACCURACIES), min_size=2, max_size=9))
def test_a_paired_difference_matches_a_loop(pairs: list[tuple[float, float]]) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    found = paired_difference(first, second)
    differences = [b - a for a, b in pairs]
    n, mean = len(pairs), sum(differences) / len(pairs)
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.ci95 == pytest.approx(student_quantile(n - 1) * math.sqrt(variance / n), abs=1e-9)
    as_far = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= abs(sum(differences)) - 1e-9
        for signs in product((1, -1), repeat=n)
    ]
    assert found.p == pytest.approx(sum(as_far) / len(as_far))


def test_equal_episodes_do_not_count_in_the_exact_test() -> None:
    """Five of a thousand differ: an exact test knows that five coins prove little."""
    first = np.full(1000, 0.5)
    second = first.copy()
    second[:5] += 0.2
    found = paired_difference(first, second)
    assert found.p == 2 / 2**5
    assert found.ci95 is not None and found.mean - found.ci95 > 0
    assert paired_difference(first, first).p == 1.0


def test_many_episodes_use_student_s_test() -> None:
    rng = np.random.default_rng(0)
    for n in (EXACT + 1, 200, 1002):
        first, second = rng.random(n), rng.random(n) + 0.03
        found, oracle = paired_difference(first, second), stats.ttest_rel(second, first)
        assert found.p == pytest.approx(oracle.pvalue, rel=1e-9)
        low, high = oracle.confidence_interval()
        assert found.ci95 == pytest.approx((high - low) / 2, rel=1e-9)


def test_the_exact_test_is_scipys() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1, 11)
    oracle = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip_p(differences) == pytest.approx(oracle.pvalue)


def test_the_largest_exact_test_counts_only_the_observed_signs() -> None:
    assert sign_flip_p(np.full(EXACT, 0.1)) == 2 / 2**EXACT


def test_the_quantile_is_the_tabled_one() -> None:
    tabled = {
        1: 12.706,
        2: 4.303,
        5: 2.571,
        9: 2.262,
        10: 2.228,
        30: 2.042,
        120: 1.980,
        10**5: 1.960,
        0: 1.960,
    }
    for degrees, value in tabled.items():
        assert student_quantile(degrees) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize("n", [2, 3, 10, 31, 400])
def test_intervals_are_student_s(n: int) -> None:
    values = np.random.default_rng(n).random(n)
    mean, half = mean_ci95(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(n))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-9)
    assert mean_ci95([0.3]) == (0.3, None)


def test_a_single_episode_gives_no_interval() -> None:
    found = paired_difference(np.array([0.2]), np.array([0.6]))
    assert (found.mean, found.ci95, found.p) == (pytest.approx(0.4), None, None)
    assert standard_error([0.3]) is None and cluster_ci95([2], [3]) is None
    assert mean_ci95([0.5, 0.5]) == (0.5, 0.0)  # no width is an interval, of many that agree


def test_without_pairing_variances_add() -> None:
    found = unpaired_difference(0.5, 0.03, 0.56, 0.04)
    assert found.mean == pytest.approx(0.06) and found.ci95 == pytest.approx(0.05)
    z = 0.06 / (0.05 / 1.96)
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert unpaired_difference(0.5, 0.03, 0.5, 0.04).p == 1.0
    # A single episode has no interval, which is not one of no width.
    assert unpaired_difference(0.5, None, 0.9, 0.04).p is None
    assert unpaired_difference(0.5, 0.0, 0.9, 0.04).p is None  # nor does one without width test anything


def test_pairing_is_sharper_where_episodes_are_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    first, second = hard + 0.01 * rng.random(500), hard + 0.02 + 0.01 * rng.random(500)
    (a, ci_a), (b, ci_b) = mean_ci95(first.tolist()), mean_ci95(second.tolist())
    paired, unpaired = paired_difference(first, second), unpaired_difference(a, ci_a, b, ci_b)
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.ci95 is not None and unpaired.ci95 is not None and paired.ci95 < unpaired.ci95 / 10
    assert paired.p is not None and unpaired.p is not None and paired.p < 1e-9 < 0.05 < unpaired.p


def test_holm_by_hand() -> None:
    # Ascending: 0.01 x 4, 0.02 x 3, 0.025 x 2 (no less than the one before), 0.9 x 1.
    assert holm([0.02, 0.9, 0.01, 0.025]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_helps(ps: list[float]) -> None:
    found = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, found, strict=True))
    for i, p in enumerate(ps):
        for j, other in enumerate(ps):
            assert p > other or found[i] <= found[j]
