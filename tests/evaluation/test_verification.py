"""Verification against loops over the pairs; drawn pairs; errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.fakes import Pixels, dots
from vlfew.core.errors import ConfigError, DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.pairs import sample_pairs
from vlfew.evaluation.protocols.verification import verification
from vlfew.evaluation.run_protocol import check_protocol


def score(data: LabeledImages, i: int, j: int) -> float:
    a, b = (data.images.batch(torch.tensor([n]))[0].flatten().float().div(255).double() for n in (i, j))
    return -sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))


def best(scored: list[tuple[float, bool]]) -> float:
    """The most correct pairs with any score as the threshold."""
    return max(sum((s >= t) == same for s, same in scored) for t in [s for s, _ in scored])


@pytest.fixture
def data() -> LabeledImages:
    return dots([c for c in range(24) for _ in range(4)])


def test_folds_match_a_loop(data: LabeledImages) -> None:
    pairs = sample_pairs(data, "test", pairs=400, folds=4, seed=3)
    outcome = verification(EvaluationContext(Pixels(), data), pairs=400, folds=4, seed=3)
    rows = list(
        zip(pairs.i.tolist(), pairs.j.tolist(), pairs.same.tolist(), pairs.fold[:, 0].tolist(), strict=True)
    )
    by_fold = []
    for fold in range(4):
        others = [(score(data, i, j), same) for i, j, same, f in rows if f != fold]
        own = [(score(data, i, j), same) for i, j, same, f in rows if f == fold]
        most = best(others)
        right_at = {
            sum((s >= t) == same for s, same in own) / len(own)
            for t in [s for s, _ in others]
            if sum((s >= t) == same for s, same in others) == most
        }
        assert any(outcome.details["fold_accuracies"][fold] == pytest.approx(r, abs=1e-9) for r in right_at)
        by_fold.append(outcome.details["fold_accuracies"][fold])
    assert outcome.accuracy == pytest.approx(np.mean(by_fold))
    assert outcome.details["standard_error"] == pytest.approx(np.std(by_fold, ddof=1) / 2)
    assert outcome.episodes == len(pairs) and outcome.per_episode is not None
    assert len(outcome.per_episode) == len(pairs)
    assert 0.5 < outcome.accuracy < 1
    assert outcome.details["roc"]["low"] != outcome.details["roc"]["high"]
    assert outcome.details["tar_at_far_0.01"] <= outcome.details["roc"]["tar"][-1] == 1
    assert "200 different pairs" not in outcome.details["far_0.001_refused"]  # those of three folds
    assert "1,000 are needed" in outcome.details["far_0.001_refused"]


def test_one_fold_gets_its_threshold_from_another_split(data: LabeledImages) -> None:
    val = data.labels < 12
    split = replace(data, splits={"val": val.nonzero().flatten(), "test": (~val).nonzero().flatten()})
    pairs = sample_pairs(split, "test", 300, 1, 0)
    both = replace(split, pairs={"test": pairs})
    outcome = verification(EvaluationContext(Pixels(), both), calibration_pairs=500)
    chosen = sample_pairs(split, "val", 500, 1, 0)
    scored = [
        (score(data, i, j), same)
        for i, j, same in zip(chosen.i.tolist(), chosen.j.tolist(), chosen.same.tolist(), strict=True)
    ]
    at = outcome.details["threshold"]
    # The scores here are rounded in another order.
    assert sum((s >= at - 1e-9) == same for s, same in scored) == best(scored)
    right = [
        (score(data, i, j) >= at - 1e-9) == same
        for i, j, same in zip(pairs.i.tolist(), pairs.j.tolist(), pairs.same.tolist(), strict=True)
    ]
    assert outcome.accuracy == pytest.approx(np.mean(right))
    assert outcome.details["threshold_chosen_on"] == f"{len(chosen)} pairs of val"
    assert outcome.details["interval"] == "over pairs"


def test_a_pair_across_folds_gets_its_threshold_from_neither(data: LabeledImages) -> None:
    """Fold 2 alone chooses for a pair between folds 0 and 1."""
    drawn = sample_pairs(data, "test", 300, 3, 0)
    first, second = (int(drawn.i[drawn.fold[:, 0] == f][0]) for f in (0, 1))
    pairs = Pairs(
        torch.cat([drawn.i, torch.tensor([first])]),
        torch.cat([drawn.j, torch.tensor([second])]),
        torch.cat([drawn.same, torch.tensor([False])]),
        torch.cat([drawn.fold, torch.tensor([[0, 1]])]),
    )
    context = EvaluationContext(Pixels(), replace(data, pairs={"test": pairs}))
    alone = drawn.fold[:, 0] == 2
    scored = [
        (score(data, i, j), same)
        for i, j, same in zip(
            drawn.i[alone].tolist(), drawn.j[alone].tolist(), drawn.same[alone].tolist(), strict=True
        )
    ]
    outcome = verification(context)
    assert outcome.per_episode is not None
    most = best(scored)
    outcomes = {
        score(data, first, second) < t
        for t in [s for s, _ in scored]
        if sum((s >= t) == same for s, same in scored) == most
    }
    assert bool(outcome.per_episode[-1]) in outcomes


def test_drawn_pairs_are_balanced_and_their_folds_share_no_class(data: LabeledImages) -> None:
    pairs = sample_pairs(data, "test", pairs=601, folds=5, seed=1)
    label = data.labels
    once = {(min(a, b), max(a, b)) for a, b in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)}
    # 24 classes of four hold 144 pairs that are the same, and no more.
    assert len(once) == len(pairs) == 2 * int(pairs.same.sum()) == 288
    assert (label[pairs.i] == label[pairs.j]).equal(pairs.same)
    assert len(sample_pairs(data, "test", pairs=101, folds=5, seed=1)) == 100
    assert bool((pairs.i != pairs.j).all())
    classes = [
        set(label[pairs.i[f]].tolist()) | set(label[pairs.j[f]].tolist())
        for f in pairs.fold.T[0] == torch.arange(5)[:, None]
    ]
    assert sum(len(c) for c in classes) == len(set().union(*classes))
    again = sample_pairs(data, "test", pairs=601, folds=5, seed=1)
    assert pairs.i.equal(again.i) and pairs.j.equal(again.j)
    assert not pairs.i.equal(sample_pairs(data, "test", 601, 5, 2).i)


def test_mistakes_are_the_worst_ones_and_named(data: LabeledImages) -> None:
    outcome = verification(EvaluationContext(Pixels(), data), pairs=400, folds=4)
    assert outcome.per_episode is not None
    mistakes = outcome.details["mistakes"]
    assert 0 < len(mistakes) <= 24
    for m in mistakes:
        assert m["score"] == pytest.approx(score(data, m["first"], m["second"]), abs=1e-6)
        assert (m["score"] >= m["threshold"]) != m["same"]
        assert m["first_name"] == f"{m['first']}.png"
    for kind in (True, False):
        by = [abs(m["score"] - m["threshold"]) for m in mistakes if m["same"] == kind]
        assert by == sorted(by, reverse=True)


@pytest.mark.parametrize("change, message", [("same", "all the same"), ("different", "all different")])
def test_a_fold_of_one_label_is_named(data: LabeledImages, change: str, message: str) -> None:
    drawn = sample_pairs(data, "test", 300, 3, 0)
    second = drawn.fold[:, 0] == 1
    keep = ~second | (drawn.same == (change == "same"))
    pairs = Pairs(drawn.i[keep], drawn.j[keep], drawn.same[keep], drawn.fold[keep])
    broken = replace(data, pairs={"test": pairs})
    with pytest.raises(DataError, match=f"dots test: the pairs in fold 2 are {message}"):
        check_protocol("verification", {}, broken)


def test_impossible_pairs_are_errors(data: LabeledImages) -> None:
    singles = dots(list(range(6)))
    with pytest.raises(DataError, match="6 classes, 0 of them with two"):
        check_protocol("verification", {}, singles)
    with pytest.raises(ConfigError, match="at least 2 pairs"):
        check_protocol("verification", {"pairs": 1}, data)
    with pytest.raises(DataError, match="no split 'val'"):
        check_protocol("verification", {"folds": 1}, data)


def test_a_perfect_model_makes_no_mistakes() -> None:
    data = dots([c for c in range(12) for _ in range(3)], spread=0)
    outcome = verification(EvaluationContext(Pixels(), data), pairs=2000, folds=2)
    assert outcome.accuracy == outcome.details["auc"] == 1 and outcome.details["eer"] == 0
    assert outcome.details["mistakes"] == []


@pytest.mark.parametrize("option", [{"pairs": 100}, {"folds": 5}, {"pairs_file": Path("pairs.safetensors")}])
def test_options_for_drawn_pairs_are_errors_where_a_split_has_its_own(data, option):
    own = replace(data, pairs={"test": sample_pairs(data, "test", pairs=40, folds=4, seed=0)})
    with pytest.raises(
        ConfigError, match=f"has its own pairs, none are drawn; leave {next(iter(option))} out"
    ):
        verification(EvaluationContext(Pixels(), own), **option)


def test_only_what_can_choose_the_threshold_is_named(tiny: LabeledImages) -> None:
    options = {"folds": 1, "calibration_split": "test", "pairs": 12}
    with pytest.raises(ConfigError, match=r"; calibrate on 'val', or draw several folds$"):
        check_protocol("verification", options, tiny)
    alone = replace(tiny, splits={"test": tiny.splits["test"]})
    with pytest.raises(ConfigError, match=r"choose their own threshold; draw several folds$"):
        check_protocol("verification", options, alone)
    two = alone.indices("test")[tiny.labels[alone.indices("test")] < 6]  # the classes 2 and 5
    with pytest.raises(
        DataError, match=r"no split 'val' to choose their threshold on; add images of further classes$"
    ):
        check_protocol("verification", {"pairs": 12}, replace(alone, splits={"test": two}))
