"""Hyperparameter searches: trials are ordinary runs; interrupted, pruned, failed, rejected."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from tests.test_cli import fails
from tests.training.conftest import CONFIG
from vlfew.cli import main
from vlfew.core.config import Config
from vlfew.core.errors import ConfigError, RunError, VlfewError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.results import write_results
from vlfew.training.callbacks import TrainingInterrupted
from vlfew.training.run_folder import RunFolder
from vlfew.training.trainer import Trainer
from vlfew.training.training_step import TrainingStep
from vlfew.training.tune.study import OpenTrial, Trial
from vlfew.workflows import search as search_module
from vlfew.workflows.assemble import load_data_of, read_config
from vlfew.workflows.search import Search

SPACE = """
optim.lr: {low: 1e-3, high: 1e-1, log: true}
image.width: {choices: [4, 8]}
"""
SHORT = [
    "optim.steps=4",
    "optim.warmup_steps=1",
    "training.eval_every=2",
    "training.save_every=2",
    "training.log_every=1",
    "model_selection.episodes=20",
]


def tune(folder: Path, *arguments: object) -> list[str]:
    """Arguments of `vlfew` for a search around the small configuration in `folder`."""
    common = ["tune", folder / "small.yaml", "--space", folder / "space.yaml", "--runs", folder, *SHORT]
    return [str(argument) for argument in (*common, *arguments)]


def make_search(folder: Path, *overrides: str, space: str = SPACE, trials: int = 2, seed: int = 0) -> Search:
    (folder / "space.yaml").write_text(space)
    arguments = (folder / "small.yaml", [*SHORT, *overrides], folder / "space.yaml", folder)
    return Search(*arguments, trials=trials, pruner="median", seed=seed)


def no_page(run: RunFolder, data: LabeledImages) -> None:
    """Write no page: it would take longer than the training."""
    write_results(run.results, [])


def run_search(search: Search, report: Any = no_page) -> tuple[list[Trial], list[str]]:
    """Run all trials of a search; returns them and the lines that were printed."""
    lines: list[str] = []
    with search.opened() as study:
        for _ in search.run_trials(study, report, lines.append):
            pass
        return study.trials, lines


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path) -> tuple[Path, str, str]:
    """A search of three trials by the command line, and its output."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(CONFIG.format(root=images))
    (folder / "space.yaml").write_text(SPACE)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(tune(folder, "--trials", 3))
    assert left.value.code == 0, err.getvalue()
    return folder, out.getvalue(), err.getvalue()


def test_every_trial_is_an_ordinary_run(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    assert sorted(p.name for p in (folder / "small-tune").iterdir() if not p.name.startswith(".")) == [
        "study.journal", "study.json", "trial-001", "trial-002", "trial-003", "tuning.html",
    ]  # fmt: skip
    for number in (1, 2, 3):
        run = RunFolder(folder / f"small-tune/trial-{number:03d}")
        config = yaml.safe_load(run.config.read_text())
        assert config["name"] == f"small-tune/trial-{number:03d}"
        assert config["evaluate"] == [] and json.loads(run.results.read_text()) == []
        assert run.state == "finished" and run.report.is_file()
        assert (run.path / "model.safetensors").is_file()
    first = yaml.safe_load((folder / "small-tune/trial-001/config.yaml").read_text())
    assert (first["optim"]["lr"], first["image"]["width"]) == (0.01, 8)  # as configured


def test_output_describes_the_search_and_its_trials(finished: tuple[Path, str, str]) -> None:
    folder, out, err = finished
    lines = [line for line in err.splitlines() if not line.startswith("step ")]
    assert lines[:2] == ["space      optim.lr: 0.001 to 0.1, logarithmic", "space      image.width: 4 or 8"]
    assert lines[2].startswith("measured   few-shot on val (ways 3, ") and lines[2].endswith(
        "nothing on test"
    )
    assert lines[3].startswith("trials     3: the first is the configuration itself; ")
    assert lines[4] == "trial 1 of 3: optim.lr=0.01 image.width=8"
    assert re.fullmatch(r"trial 1 of 3: val \d+\.\d%, the best so far", lines[5])
    assert re.fullmatch(
        r"trial 3 of 3: val \d+\.\d%(, the best so far| \(best \d+\.\d% of trial \d\))", lines[9]
    )
    assert lines[-1] == f"page: {folder / 'small-tune/tuning.html'}"
    head, *rows = out.splitlines()
    assert head.split() == ["trial", "validation", "%", "saved", "at", "step", "optim.lr", "image.width"]
    accuracies = [float(row.split()[1]) for row in rows[:3]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert "The best of 3 trials was chosen on the validation split" in out
    assert "Traceback" not in err and "[I " not in err


def commands(out: str) -> dict[str, list[str]]:
    """The command lines at the end of the output."""
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    return {k: v.split() for k, v in (line for line in lines if len(line) == 2) if v.startswith("vlfew ")}


def test_the_printed_commands_work(
    finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, _ = finished
    best = int(out.splitlines()[1].split()[0])
    for name, more in (("train", []), ("evaluate", ["--json", str(folder / "own.json")])):
        with pytest.raises(SystemExit) as left:
            main([*commands(out)[name][1:], *more])
        assert left.value.code == 0, capsys.readouterr().err
    (own,), (again,) = (
        json.loads((folder / f).read_text()) for f in ("own.json", "small-tuned/results.json")
    )
    assert own["split"] == again["split"] == "test" and own["accuracy"] == again["accuracy"]
    # Trained again on the same machine, it is the same model.
    names = (f"small-tune/trial-{best:03d}", "small-tuned")
    one, other = (load_file(folder / name / "model.safetensors") for name in names)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_command_again_trains_nothing_and_more_trials_continue(
    finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, _ = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors")}
    for trials in (3, 2):
        with pytest.raises(SystemExit) as left:
            main(tune(folder, "--trials", trials))
        assert left.value.code == 0
        again = capsys.readouterr()
        assert again.out == out and again.err.startswith("page: ")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors")} == before
    search = make_search(folder, trials=4)
    trials_now, lines = run_search(search)
    assert len(trials_now) == 4 and sum("trial 4 of 4" in line for line in lines) == 2
    assert not any("trial 3" in line.split(":")[0] for line in lines)


@pytest.mark.parametrize(
    ("space", "first"),
    [
        ("optim.max_grad_norm: {choices: [2.0, 1]}\n", {"optim.max_grad_norm": "1"}),
        ("text.encoder: {choices: [minilm, null]}\n", {"text.encoder": "null"}),
        ("objective: {choices: [[{loss: supervised_contrastive}], [{loss: contrastive}]]}\n",
         {"objective": '[{"loss": "supervised_contrastive"}]'}),
        ("optim.weight_decay: {low: 0.01, high: 0.11, step: 0.02}\n", {"optim.weight_decay": 0.05}),
        ("optim.weight_decay: {low: 0.01, high: 0.11, step: 0.03}\n", None),
        ("optim.weight_decay: {low: 0.1, high: 0.2}\n", None),
        ("objective.0.temperature: {low: 0.01, high: 0.2}\n", None),
        ("optim.lr: {low: 0.001, high: 0.1}\noptim.max_grad_norm: {choices: [2.0, 3.0]}\n", None),
    ],
)  # fmt: skip
def test_the_configuration_itself_is_found_in_the_search_space(
    config: Path, space: str, first: dict[str, Any] | None
) -> None:
    assert make_search(config.parent, space=space).as_configured() == first


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """An uninterrupted search of three trials."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "small.yaml").write_text(CONFIG.format(root=images))
    run_search(make_search(folder, trials=3))
    return folder


@pytest.mark.parametrize("where", ["before training", "in the third step", "before its result is recorded"])
def test_killed_in_the_second_trial_a_search_continues_with_the_same_trials(
    uninterrupted: Path, config: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder, search = config.parent, make_search(config.parent, trials=3)
    with monkeypatch.context() as patch:
        if where == "before training":
            run = Search._run

            def not_begun(self: Search, trial: OpenTrial, *arguments: Any) -> Trial:
                if trial.snapshot.number == 2:
                    raise Killed
                return run(self, trial, *arguments)

            patch.setattr(Search, "_run", not_begun)
        elif where == "in the third step":
            forward, steps = TrainingStep.forward, iter(range(1, 10**6))

            def killed(self: TrainingStep, *arguments: Any) -> Any:
                if next(steps) == 4 + 3:
                    raise Killed
                return forward(self, *arguments)

            patch.setattr(TrainingStep, "forward", killed)
        else:
            finish = OpenTrial.finish

            def not_recorded(self: OpenTrial, accuracy: float) -> Trial:
                if self.snapshot.number == 2:
                    raise Killed
                return finish(self, accuracy)

            patch.setattr(OpenTrial, "finish", not_recorded)
        with pytest.raises(Killed):
            run_search(search)
    trials, lines = run_search(make_search(folder, trials=3))
    resumed = "" if where == "before training" else ", resumed"
    assert lines[4].startswith("trial 2 of 3: optim.lr=")
    assert lines[4].endswith(f"image.width={trials[1].values['image.width']}{resumed}")
    expected, _ = run_search(make_search(uninterrupted, trials=3))
    assert trials == expected
    for number in (1, 2, 3):
        name = f"small-tune/trial-{number:03d}"
        one, other = (load_file(root / name / "model.safetensors") for root in (uninterrupted, folder))
        assert all(torch.equal(one[key], other[key]) for key in one)
        logs = [RunFolder(root / name).read_log() for root in (uninterrupted, folder)]
        once, twice = ([entry.get("loss") for entry in log] for log in logs)
        assert once == twice


def test_a_pruned_trial_keeps_its_folder_and_the_search_continues(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = OpenTrial.report
    monkeypatch.setattr(
        OpenTrial, "report", lambda self, s, a: report(self, s, a) or (self.snapshot.number == 2 and s == 4)
    )
    search = make_search(config.parent, trials=3)
    trials, lines = run_search(search)
    assert [t.state for t in trials] == ["finished", "pruned", "finished"]
    assert list(trials[1].curve) == [2, 4] and trials[1].accuracy == max(trials[1].curve.values())
    assert re.match(r"trial 2 of 3: pruned at step 4, val \d+\.\d% \(best ", lines[7])
    run = search.run_of(trials[1])
    assert run.state == "unfinished" and not (run.path / "model.json").exists()
    assert max(e["step"] for e in run.read_log()) == 4


def test_failed_trials_are_reported_and_the_search_continues(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is not a number; not enough memory."""
    factors = {2: float("nan"), 3: None}
    forward, current = TrainingStep.forward, {"trial": 0}
    fit = search_module.fit

    def counted(config: Config, run: RunFolder, *arguments: Any, **options: Any) -> Trainer:
        current["trial"] = int(run.path.name[-3:])
        return fit(config, run, *arguments, **options)

    def failing(self: TrainingStep, *arguments: Any) -> Any:
        loss, terms = forward(self, *arguments)
        factor = factors.get(current["trial"], 1.0)
        if factor is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss * factor, terms

    monkeypatch.setattr(search_module, "fit", counted)
    monkeypatch.setattr(TrainingStep, "forward", failing)
    search = make_search(config.parent, space="optim.lr: {low: 1e-3, high: 1e-1, log: true}\n", trials=3)
    trials, lines = run_search(search)
    assert [t.state for t in trials] == ["finished", "failed", "failed"]
    assert trials[1].why == "the loss or the weights have not been finite since step 1"
    assert trials[2].why == "out of memory"
    assert "failed: the loss or the weights have not been finite since step 1 (best " in lines[6]


@pytest.mark.parametrize("kind", [ConfigError, VlfewError])
def test_an_error_during_training_ends_only_its_trial(
    kind: type[VlfewError], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, steps = TrainingStep.forward, iter(range(10**6))

    def failing(self: TrainingStep, *arguments: Any) -> Any:
        if next(steps) == 4 + 1:
            raise kind("not possible")
        return forward(self, *arguments)

    monkeypatch.setattr(TrainingStep, "forward", failing)
    trials, lines = run_search(
        make_search(config.parent, space="optim.lr: {low: 1e-3, high: 1e-1}\n", trials=3)
    )
    assert [t.state for t in trials] == ["finished", "failed", "finished"]
    assert any("trial 2 of 3: failed: not possible" in line for line in lines)


def test_an_interruption_does_not_fail_the_trial(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Trainer) -> None:
        raise TrainingInterrupted("stopped at step 1")

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(Trainer, "train", stopped)
        run_search(make_search(config.parent, trials=1))
    trials, _ = run_search(make_search(config.parent, trials=1))
    assert [t.state for t in trials] == ["finished"]


def test_a_search_without_a_finished_trial_ends_in_one_line_and_can_be_corrected(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent
    (folder / "space.yaml").write_text("sampling.classes_per_batch: {choices: [50, 60]}\n")
    with pytest.raises(SystemExit) as left:
        main(tune(folder, "--trials", 2))
    last = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 2
    assert "no trial finished training (2 trials: 2 failed); the last: " in last
    assert "and sampling.classes_per_batch needs " in last
    trials, _ = run_search(
        make_search(folder, space="sampling.classes_per_batch: {choices: [4, 8]}\n", trials=2)
    )
    assert [t.state for t in trials] == ["finished", "finished"]


def test_the_same_values_are_not_trained_twice(config: Path) -> None:
    search = make_search(config.parent, space="image.width: {choices: [4, 8]}\n", trials=4)
    trials, lines = run_search(search)
    duplicates = [t for t in trials if t.duplicate_of is not None]
    assert len(duplicates) == 2 and len(list(search.path.glob("trial-*/model.json"))) == 2
    for trial in duplicates:
        first = trials[trial.duplicate_of - 1]  # type: ignore[operator]
        assert (trial.values, trial.accuracy, trial.state) == (first.values, first.accuracy, "finished")
        reported = f"trial {trial.number} of 4: same values as trial {first.number}, val "
        assert any(reported in line for line in lines)


@pytest.mark.parametrize(
    ("overrides", "space", "seed", "difference"),
    [
        (["optim.weight_decay=0.2"], SPACE, 0, "optim.weight_decay: 0.05 -> 0.2"),
        (
            [],
            SPACE.replace("1e-1", "1e-2"),
            0,
            "space of optim.lr: 0.001 to 0.1, logarithmic -> 0.001 to 0.01",
        ),
        (
            [],
            SPACE + "optim.warmup_steps: {low: 0, high: 3}\n",
            0,
            "space of optim.warmup_steps: unset -> 0 to 3, integer",
        ),
        ([], SPACE, 1, "seed of the search: 0 -> 1"),
    ],
)
def test_another_search_in_the_same_folder_is_rejected_with_the_difference(
    uninterrupted: Path, overrides: list[str], space: str, seed: int, difference: str
) -> None:
    try:
        with pytest.raises(RunError, match=re.escape(difference)) as error:
            run_search(make_search(uninterrupted, *overrides, space=space, seed=seed))
    finally:
        (uninterrupted / "space.yaml").write_text(SPACE)
    assert "\n" not in str(error.value)
    assert f"another name=..., or remove {uninterrupted / 'small-tune'}" in str(error.value)


def test_evaluations_may_change_and_the_version_of_optuna_may_not(
    uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(run_search(make_search(uninterrupted, "evaluate=[]", trials=3))[0]) == 3
    monkeypatch.setattr("optuna.__version__", "6.1.0")
    with pytest.raises(RunError, match=r"Optuna: 5\.x -> 6\.x"):
        run_search(make_search(uninterrupted))


def test_the_test_split_is_never_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlfew.workflows.tune import _report_trial

    seen: set[int] = set()

    class Watched:
        """Images that record which of them were read."""

        def __init__(self, images: Any) -> None:
            self.images, self.shape, self.nbytes, self.hashes = images, images.shape, images.nbytes, None

        def __len__(self) -> int:
            return len(self.images)

        def batch(self, index: Tensor) -> Tensor:
            seen.update(index.flatten().tolist())
            batch: Tensor = self.images.batch(index)
            return batch

    data = load_data_of(read_config(config))
    watched = replace(data, images=Watched(data.images))
    monkeypatch.setattr(search_module, "load_data_of", lambda _: watched)
    run_search(make_search(config.parent, trials=2), _report_trial)
    assert set(data.indices("val").tolist()) <= seen and len(seen & set(data.indices("train").tolist())) > 20
    assert not seen & set(data.indices("test").tolist())


def rejection(folder: Path, *overrides: str, space: str = SPACE) -> str:
    """The line in which a search is rejected before any trial."""
    with pytest.raises(VlfewError) as error:
        run_search(make_search(folder, *overrides, space=space))
    assert not list(folder.glob("small-tune/trial-*"))
    (line,) = str(error.value).splitlines()
    return line


def test_mistakes_are_found_before_any_training(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = config.parent
    assert "a trial is trained once; set repeat=null" in rejection(
        folder, "repeat={over: seed, values: [1, 2]}"
    )
    assert "unknown key 'optim.lrr'" in rejection(folder, space="optim.lrr: {low: 0.1, high: 1.0}\n")
    assert "unknown key 'optim.lrr'" in rejection(folder, "optim.lrr=3")
    data = load_data_of(read_config(config))
    with monkeypatch.context() as patch:
        none = replace(data, splits={k: v for k, v in data.splits.items() if k != "val"})
        patch.setattr(search_module, "load_data_of", lambda _: none)
        line = rejection(folder)
    assert line.startswith(
        "a search compares trials on the validation split, and folder as configured has none; "
    )
    with make_search(folder).opened(), pytest.raises(RunError, match=r"another process is .*small-tune"):
        run_search(make_search(folder))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "a search runs in one process, and 2 were started" in rejection(folder)


def test_a_key_that_changes_the_measurement_is_rejected(config: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    for path in images.glob("*/*"):
        (tmp_path / "mixed" / path.name).symlink_to(path)
    mixed = [f"data.root={tmp_path / 'mixed'}", "model_selection=null"]
    line = rejection(config.parent, *mixed, space="data.split_seed: {choices: [0, 3]}\n")
    assert "space.yaml:1: data.split_seed=3 changes what is measured on the validation split" in line
    # The image size does not: the same images are classified.
    size = "data.image_size: {choices: [16, 12]}\n"
    trials, _ = run_search(make_search(config.parent, *mixed, "sampling.classes_per_batch=3", space=size))
    assert [t.state for t in trials] == ["finished", "finished"]


def test_without_optuna(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    (config.parent / "space.yaml").write_text(SPACE)
    line = fails(capsys, *tune(config.parent))
    assert line == "vlfew: tuning needs Optuna, which is not installed (pip install 'vlfew[tune]')"


def test_damaged_metadata_is_one_line(uninterrupted: Path) -> None:
    metadata = uninterrupted / "small-tune/study.json"
    text = metadata.read_text()
    metadata.write_text(text[:20])
    try:
        with pytest.raises(RunError, match=r"study\.json is damaged.*remove"):
            run_search(make_search(uninterrupted))
    finally:
        metadata.write_text(text)


def test_a_missing_initial_model_is_found_before_the_first_trial(config: Path) -> None:
    with pytest.raises(ConfigError, match="init_from=runs/nothing: there is no model 'runs/nothing'"):
        make_search(config.parent, "init_from=runs/nothing")
