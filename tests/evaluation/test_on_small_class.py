"""Episodes over a split in which some classes have too few images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.fakes import Pixels, dots
from vlfew.core.errors import DataError
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.protocols.few_shot import few_shot
from vlfew.evaluation.run_protocol import check_protocol
from vlfew.evaluation.split_episodes import split_episodes

LABELS = [0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5, 6, 6, 6]


def test_small_classes_are_skipped_and_counted(tmp_path: Path) -> None:
    data = dots(LABELS, spread=0)
    with pytest.raises(DataError, match="'s0' has 1 image"):
        check_protocol("few-shot", {"ways": 3, "queries": 2}, data)
    options = {"ways": 3, "queries": 2, "episodes": 40, "on_small_class": "skip"}
    check_protocol("few-shot", options, data)
    outcome = few_shot(EvaluationContext(Pixels(), data), **options)
    assert outcome.accuracy == 1 and outcome.details["skipped_classes"] == 4
    drawn = split_episodes(data, "test", 3, 1, 2, 40, 0, tmp_path / "e.safetensors", "skip")
    for support, query, classes in zip(drawn.support, drawn.query, drawn.classes, strict=True):
        for s, q, c in zip(support.tolist(), query.tolist(), classes.tolist(), strict=True):
            assert {LABELS[p] for p in s + q} == {c} and len(set(s + q)) == 3
    assert set(drawn.classes.unique().tolist()) == {1, 4, 6}
    again = split_episodes(data, "test", 3, 1, 2, 40, 0, tmp_path / "e.safetensors", "skip")
    assert again.support.equal(drawn.support) and again.query.equal(drawn.query)


def test_all_remaining_images_are_queries() -> None:
    data = dots(LABELS)
    drawn = split_episodes(data, "test", "all", 1, "all", 5, 0, None, "skip")
    assert drawn.classes[0].tolist() == [1, 3, 4, 6]
    for support, query in zip(drawn.support[:, :, 0].tolist(), drawn.query.tolist(), strict=True):
        for s, q in zip(support, query, strict=True):
            queries = [p for p in q if p >= 0]
            assert sorted([s, *queries]) == [n for n, c in enumerate(LABELS) if c == LABELS[s]]


def test_enumerated_supports_skip_small_classes() -> None:
    drawn = split_episodes(dots(LABELS), "test", "all", 1, "all", "each", 0, None, "skip")
    assert [s for s in drawn.support[:, 0, 0].tolist()] == [1, 2]


def test_no_class_is_left() -> None:
    with pytest.raises(DataError, match="no class"):
        check_protocol("few-shot", {"ways": "all", "queries": 9, "on_small_class": "skip"}, dots(LABELS))
