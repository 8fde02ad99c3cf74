"""Calibration against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlfew.evaluation.calibration import BINS, expected_calibration_error, fit_temperature

ROWS = st.lists(
    st.tuples(st.lists(st.floats(-8, 8), min_size=3, max_size=3), st.integers(0, 2)), min_size=1, max_size=40
)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(x - max(row)) for x in row]
    return [p / sum(powers) for p in powers]


def ece(rows: list[tuple[list[float], int]], temperature: float) -> float:
    """Bin by bin, answer by answer."""
    answers = []
    for row, target in rows:
        probabilities = softmax([x / temperature for x in row])
        confidence = max(probabilities)
        answers.append((confidence, probabilities.index(confidence) == target))
    error = 0.0
    for m in range(1, BINS + 1):
        inside = [(c, right) for c, right in answers if (m - 1) / BINS < c <= m / BINS]
        if inside:
            share = sum(right for _, right in inside) / len(inside)
            mean = sum(c for c, _ in inside) / len(inside)
            error += len(inside) / len(answers) * abs(share - mean)
    return error


def tensors(rows: list[tuple[list[float], int]]) -> tuple[Tensor, Tensor]:
    scores = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    return scores, torch.tensor([target for _, target in rows])


def nll(rows: list[tuple[list[float], int]], temperature: float) -> float:
    return -sum(math.log(max(softmax([x / temperature for x in r])[t], 1e-300)) for r, t in rows) / len(rows)


@settings(deadline=None)
@given(ROWS, st.sampled_from([0.5, 1.0, 3.0]))
def test_ece_matches_a_loop(rows: list[tuple[list[float], int]], temperature: float) -> None:
    assert expected_calibration_error(*tensors(rows), temperature) == pytest.approx(
        ece(rows, temperature), abs=1e-9
    )


def test_ece_of_calibrated_predictions() -> None:
    """Four predictions with confidence 3/4, three of them correct; and one more that is not."""
    row = [math.log(3.0), 0.0]
    calibrated = [(row, 0), (row, 0), (row, 0), (row, 1)]
    assert expected_calibration_error(*tensors(calibrated)) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(*tensors([*calibrated, (row, 1)])) == pytest.approx(0.15)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_no_other_temperature_has_a_higher_likelihood(rows: list[tuple[list[float], int]]) -> None:
    found = fit_temperature(*tensors(rows))
    assert 1e-3 * 0.99 <= found <= 1e3 * 1.01
    grid = [10 ** (n / 8) for n in range(-24, 25)]
    assert nll(rows, found) <= min(nll(rows, t) for t in grid) + 1e-6


def test_temperature_undoes_a_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator).double() * 2
    target = torch.multinomial(logits.softmax(-1), 1, generator=generator).flatten()
    assert fit_temperature(logits, target) == pytest.approx(1.0, rel=0.05)
    once, scaled = fit_temperature(logits, target), fit_temperature(100 * logits, target)
    assert scaled == pytest.approx(100 * once, rel=1e-6)
    before = expected_calibration_error(100 * logits, target)
    assert expected_calibration_error(100 * logits, target, scaled) < 0.03 < 0.3 < before
