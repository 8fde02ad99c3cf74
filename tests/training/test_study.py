"""Suggestions, pruning and importances of a search, with a formula in place of training."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vlfew.core.errors import RunError
from vlfew.training.tune.search_space import Choices, Range, SearchSpace
from vlfew.training.tune.study import (
    MIN_COMPARED,
    MIN_FOR_IMPORTANCE,
    MIN_GOOD,
    OpenTrial,
    Pruner,
    Study,
    Trial,
)

SPACE: SearchSpace = {
    "optim.lr": Range(1e-4, 1e-1, log=True),
    "image.width": Range(8, 64, step=8),
    "optim.max_grad_norm": Choices((1.0, None)),
}
STEPS = (10, 20, 30)


def study_at(folder: Path, pruner: Pruner = "none", seed: int = 0, space: SearchSpace = SPACE) -> Study:
    return Study(folder / "study.journal", space, pruner, seed, steps=30)


def accuracy(trial: Trial) -> float:
    """Best at a learning rate of 0.003; nothing else matters much."""
    rate, width = float(trial.values["optim.lr"]), float(trial.values["image.width"])
    return 0.9 - 0.2 * abs(math.log10(rate / 0.003)) - 1e-4 * width


def run_trial(trial: OpenTrial) -> Trial:
    """Report the validations of a trial and close it."""
    final = accuracy(trial.snapshot)
    for step in STEPS:
        if trial.report(step, final * step / 30):
            return trial.prune()
    return trial.finish(final)


def search(study: Study, trials: int) -> list[Trial]:
    while len(study.done) < trials:
        run_trial(study.next())
    return study.trials


def test_the_same_seed_suggests_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, two, other = (search(study_at(f, seed=s), 12) for f, s in zip(folders, (0, 0, 1), strict=True))
    assert one == two
    assert [t.values for t in one] != [t.values for t in other]
    assert len({str(t.values) for t in one}) == 12


def test_later_suggestions_are_better_than_random(tmp_path: Path) -> None:
    late = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        study = study_at(tmp_path / str(seed), seed=seed)
        trials = search(study, 25)
        late += [abs(math.log10(float(t.values["optim.lr"]) / 0.003)) for t in trials[15:]]
        best = study.best
        assert best is not None and best.accuracy == max(t.accuracy or 0 for t in trials)
    # Random suggestions span three powers of ten, with the best value near the middle.
    assert median(late) < 0.75 * 2 / 3


@pytest.mark.parametrize(("pruner", "reported"), [("none", 0), ("median", 1), ("median", 3)])
def test_an_interrupted_search_continues_with_the_same_trials(
    tmp_path: Path, pruner: Pruner, reported: int
) -> None:
    (tmp_path / "reference").mkdir()
    reference = search(study_at(tmp_path / "reference", pruner), 13)
    for number in range(13):
        study = study_at(tmp_path, pruner)
        assert len(study.done) == number
        trial = study.next()
        final = accuracy(trial.snapshot)
        for step in STEPS[:reported]:
            if trial.report(step, final * step / 30):
                break
        # Another process continues the trial.
        again = study_at(tmp_path, pruner)
        assert [t.state for t in again.trials[number:]] == ["unfinished"]
        resumed = again.next()
        assert resumed.snapshot == trial.snapshot
        assert run_trial(resumed).number == number + 1
    assert study_at(tmp_path, pruner).trials == reference


def test_a_leftover_lock_and_a_truncated_line_are_repaired(tmp_path: Path) -> None:
    before = search(study_at(tmp_path), 3)
    journal = tmp_path / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"work')
    (tmp_path / "study.journal.lock").touch()
    study = study_at(tmp_path)
    assert study.trials == before
    search(study, 4)
    assert len(study_at(tmp_path).done) == 4


@pytest.mark.parametrize("content", ['{"op_code": 99, "worker_id": "x"}\n', "{}\n", "[]\nnothing\n{}\n"])
def test_an_unreadable_journal(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.journal").write_text(content)
    with pytest.raises(RunError, match=r"study\.journal cannot be read by Optuna 5\.") as error:
        study_at(tmp_path)
    assert "\n" not in str(error.value) and f"remove {tmp_path}" in str(error.value)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(curves=st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=8, max_size=12))
@example(curves=[[0, 0, 0, 0]] * 3 + [[0, 0, 13, 0]] * 4 + [[0, 13, 11, 0], [0, 0, 12, 0]])
def test_trials_below_the_median_of_the_finished_ones_are_pruned(
    tmp_path_factory: pytest.TempPathFactory, curves: list[list[int]]
) -> None:
    study = study_at(tmp_path_factory.mktemp("pruned"), "median")
    finished: list[list[int]] = []
    for curve in curves:
        trial = study.next()
        for place, (step, value) in enumerate(zip((5, 10, 20, 30), curve, strict=True)):
            # None is pruned in the first quarter of the steps.
            seen = [other[place] for other in finished] if step >= 8 else []
            expected = len(seen) >= MIN_COMPARED and max(curve[: place + 1]) < median(seen)
            assert trial.report(step, value / 32) == expected  # exact in binary: ties are ties
            if expected:
                pruned = trial.prune()
                assert pruned.state == "pruned" and pruned.accuracy == max(curve[: place + 1]) / 32
                break
        else:
            assert trial.finish(max(curve) / 32).state == "finished"
            finished.append(curve)


def test_failed_trials_have_a_reason_and_are_suggested_less(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    for _ in range(30):
        trial = study.next()
        if trial.snapshot.values["optim.max_grad_norm"] == "null":
            failed = trial.fail("no")
            assert (failed.state, failed.why, failed.accuracy) == ("failed", "no", None)
        else:
            run_trial(trial)
    states = [t.state for t in study.trials]
    assert states[:10].count("failed") >= 2 and states[20:].count("failed") <= 3


def test_given_values_of_the_first_trial_are_not_rounded(tmp_path: Path) -> None:
    first = {"optim.lr": 0.00123456789, "image.width": 16, "optim.max_grad_norm": "null"}
    trial = study_at(tmp_path).next(first)
    assert trial.snapshot.values == first and trial.snapshot.as_configured
    # Interrupted and given again, it is still one trial.
    study = study_at(tmp_path)
    assert run_trial(study.next(first)).number == 1
    second = study.next(first).snapshot
    assert second.number == 2 and not second.as_configured and second.values != first
    assert study.trials[0].overrides == [
        "optim.lr=0.00123456789",
        "image.width=16",
        "optim.max_grad_norm=null",
    ]


def test_a_duplicate_copies_the_results_of_the_earlier_trial(tmp_path: Path) -> None:
    study = study_at(tmp_path, "median")
    done = search(study, 12)
    done.append(study.next().fail("no"))
    for earlier in (next(t for t in done if t.state == state) for state in ("finished", "pruned", "failed")):
        copy = study.next().copy(earlier)
        assert (copy.state, copy.accuracy, copy.curve, copy.why) == (
            earlier.state,
            earlier.accuracy,
            earlier.curve,
            earlier.why,
        )
        assert copy.duplicate_of == earlier.number < copy.number
    best = study.best
    assert best is not None and best.duplicate_of is None


def test_importances_need_enough_finished_trials(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    search(study, MIN_FOR_IMPORTANCE - 1)
    assert (
        study.importances()
        == f"this needs {MIN_FOR_IMPORTANCE} finished trials, and there are only {MIN_FOR_IMPORTANCE - 1}"
    )
    search(study, 25)
    found = study.importances()
    assert not isinstance(found, str)
    assert (found.good, found.finished) == (MIN_GOOD, 25)
    assert next(iter(found.shares)) == "optim.lr" and found.shares["optim.lr"] > 0.5
    assert set(found.shares) == set(SPACE) and sum(found.shares.values()) == pytest.approx(1)
    assert study_at(tmp_path).importances() == found


def test_no_importances_where_all_trials_are_equal(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    for _ in range(MIN_FOR_IMPORTANCE):
        study.next().finish(0.5)
    problem = study.importances()
    assert isinstance(problem, str) and "too similar" in problem
