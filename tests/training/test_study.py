"""What a search knows and tries next, with a formula in place of trainings."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlfew.core.errors import RunError
from vlfew.training.tune.search_space import Choices, Range, SearchSpace
from vlfew.training.tune.study import MIN_COMPARED, MIN_GOOD, MIN_FOR_IMPORTANCE, OpenTrial, Pruner, Study, Trial

SPACE: SearchSpace = {
    "optim.lr": Range(1e-4, 1e-1, log=True),
    "image.width": Range(8, 64, step=8),
    "optim.max_grad_norm": Choices(("1.0", "null")),
}
STEPS = (10, 20, 30)


def study_at(folder: Path, pruner: Pruner = "none", seed: int = 0, space: SearchSpace = SPACE) -> Study:
    return Study(folder / "study.journal", space, pruner, seed, steps=30)


def accuracy(trial: Trial) -> float:
    """Best at a learning rate of 0.003; nothing else matters much."""
    rate, width = float(trial.values["optim.lr"]), float(trial.values["image.width"])
    return 0.9 - 0.2 * abs(math.log10(rate / 0.003)) - 1e-4 * width


def answer(trial: OpenTrial) -> Trial:
    """Goes through the validations of a trial, and closes it."""
    final = accuracy(trial.snapshot)
    for step in STEPS:
        if trial.report(step, final * step / 30):
            return trial.prune()
    return trial.finish(final)


def search(study: Study, trials: int) -> list[Trial]:
    while len(study.done) < trials:
        answer(study.next())
    return study.trials


def test_the_same_seed_suggests_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, two, other = (search(study_at(f, seed=s), 12) for f, s in zip(folders, (0, 0, 1), strict=True))
    assert one == two
    assert [t.values for t in one] != [t.values for t in other]
    assert len({str(t.values) for t in one}) == 12


def test_it_tries_what_is_good_more_often_than_chance(tmp_path: Path) -> None:
    late = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        study = study_at(tmp_path / str(seed), seed=seed)
        trials = search(study, 25)
        late += [abs(math.log10(float(t.values["optim.lr"]) / 0.003)) for t in trials[15:]]
        best = study.best
        assert best is not None and best.accuracy == max(t.accuracy or 0 for t in trials)
    # At random, this far from the best value in powers of ten: three of them, with the best in the middle.
    assert median(late) < 0.75 * 2 / 3


@pytest.mark.parametrize(("pruner", "reported"), [("none", 0), ("median", 1), ("median", 3)])
def test_interrupted_anywhere_it_goes_on_as_if_it_had_not_been(
    tmp_path: Path, pruner: Pruner, reported: int
) -> None:
    (tmp_path / "whole").mkdir()
    whole = search(study_at(tmp_path / "whole", pruner), 13)
    for number in range(13):
        study = study_at(tmp_path, pruner)
        assert len(study.done) == number
        trial = study.next()
        final = accuracy(trial.snapshot)
        for step in STEPS[:reported]:
            if trial.report(step, final * step / 30):
                break
        # Another process takes the trial up.
        again = study_at(tmp_path, pruner)
        assert [t.state for t in again.trials[number:]] == ["unfinished"]
        taken = again.next()
        assert taken.snapshot == trial.snapshot
        assert answer(taken).number == number + 1
    assert study_at(tmp_path, pruner).trials == whole


def test_a_crash_may_leave_a_lock_and_half_a_line(tmp_path: Path) -> None:
    before = search(study_at(tmp_path), 3)
    journal = tmp_path / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"work')
    (tmp_path / "study.journal.lock").touch()
    study = study_at(tmp_path)
    assert study.trials == before
    search(study, 4)
    assert len(study_at(tmp_path).done) == 4


@pytest.mark.parametrize("content", ['{"op_code": 99, "worker_id": "x"}\n', "{}\n", "[]\nnothing\n{}\n"])
def test_a_journal_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.journal").write_text(content)
    with pytest.raises(RunError, match=r"study\.journal cannot be read by Optuna 5\.") as error:
        study_at(tmp_path)
    assert "\n" not in str(error.value) and f"remove {tmp_path}" in str(error.value)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(curves=st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=8, max_size=12))
def test_pruned_is_what_falls_below_the_median_of_the_finished(
    tmp_path_factory: pytest.TempPathFactory, curves: list[list[int]]
) -> None:
    study = study_at(tmp_path_factory.mktemp("pruned"), "median")
    finished: list[list[int]] = []
    for curve in curves:
        trial = study.next()
        for place, (step, value) in enumerate(zip((5, 10, 20, 30), curve, strict=True)):
            # In the first quarter none is.
            seen = [other[place] for other in finished] if step >= 8 else []
            expected = len(seen) >= MIN_COMPARED and max(curve[: place + 1]) < median(seen)
            assert trial.report(step, value / 20) == expected
            if expected:
                told = trial.prune()
                assert told.state == "pruned" and told.accuracy == max(curve[: place + 1]) / 20
                break
        else:
            assert trial.finish(max(curve) / 20).state == "finished"
            finished.append(curve)


def test_a_trial_that_failed_says_why_and_is_not_sought_again(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    for _ in range(30):
        trial = study.next()
        if trial.snapshot.values["optim.max_grad_norm"] == "null":
            failed = trial.fail("no")
            assert (failed.state, failed.why, failed.accuracy) == ("failed", "no", None)
        else:
            answer(trial)
    states = [t.state for t in study.trials]
    assert states[:10].count("failed") >= 2 and states[20:].count("failed") <= 3


def test_the_first_trial_can_be_given_and_keeps_all_its_digits(tmp_path: Path) -> None:
    first = {"optim.lr": 0.00123456789, "image.width": 16, "optim.max_grad_norm": "null"}
    trial = study_at(tmp_path).next(first)
    assert trial.snapshot.values == first and trial.snapshot.as_configured
    # Interrupted, and given again: there is one first trial.
    study = study_at(tmp_path)
    assert answer(study.next(first)).number == 1
    second = study.next(first).snapshot
    assert second.number == 2 and not second.as_configured and second.values != first
    assert study.trials[0].overrides == [
        "optim.lr=0.00123456789",
        "image.width=16",
        "optim.max_grad_norm=null",
    ]


def test_a_copy_has_the_answers_of_its_twin(tmp_path: Path) -> None:
    study = study_at(tmp_path, "median")
    done = search(study, 12)
    done.append(study.next().fail("no"))
    for duplicate_of in (next(t for t in done if t.state == state) for state in ("finished", "pruned", "failed")):
        copy = study.next().copy(duplicate_of)
        assert (copy.state, copy.accuracy, copy.curve, copy.why) == (
            duplicate_of.state,
            duplicate_of.accuracy,
            duplicate_of.curve,
            duplicate_of.why,
        )
        assert copy.duplicate_of == duplicate_of.number < copy.number
    best = study.best
    assert best is not None and best.duplicate_of is None


def test_what_mattered_is_told_once_there_is_enough_to_tell_it_by(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    search(study, MIN_FOR_IMPORTANCE - 1)
    assert study.importances() == f"this needs {MIN_FOR_IMPORTANCE} finished trials, and there are only {MIN_FOR_IMPORTANCE - 1}"
    search(study, 25)
    found = study.importances()
    assert not isinstance(found, str)
    assert (found.good, found.finished) == (MIN_GOOD, 25)
    assert next(iter(found.shares)) == "optim.lr" and found.shares["optim.lr"] > 0.5
    assert set(found.shares) == set(SPACE) and sum(found.shares.values()) == pytest.approx(1)
    assert study_at(tmp_path).importances() == found


def test_nothing_mattered_where_all_are_equally_good(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    for _ in range(MIN_FOR_IMPORTANCE):
        study.next().finish(0.5)
    said = study.importances()
    assert isinstance(said, str) and "too much alike" in said
