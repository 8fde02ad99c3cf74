"""`queries: auto` is 15 query images per class, or as many as the smallest class allows."""

from __future__ import annotations

import pytest

from tests.evaluation.fakes import Pixels, dots
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.run_protocol import run_protocol


@pytest.mark.parametrize(("images", "shots", "expected"), [(20, 1, 15), (6, 2, 4)])
def test_queries_fit_the_smallest_class(images: int, shots: int, expected: int) -> None:
    data = dots([c for c in range(6) for _ in range(images + c)])
    options = {"ways": 3, "shots": shots, "episodes": 20}
    result, outcome = run_protocol(EvaluationContext(Pixels(), data), "few-shot", options)
    same, fixed = run_protocol(EvaluationContext(Pixels(), data), "few-shot", options | {"queries": expected})
    assert result.options["queries"] == result.get("queries") == expected
    assert result.options == same.options and (outcome.per_episode == fixed.per_episode).all()
