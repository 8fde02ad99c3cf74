"""Runs as their users meet them: finished, repeated, killed, stopped, damaged, changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.training.conftest import CONFIG, ENVIRONMENT, command, vlfew
from vlfew.cli import main
from vlfew.core.errors import VlfewError
from vlfew.core.files import sha256
from vlfew.training.callbacks import Callback
from vlfew.training.run_folder import RunFolder
from vlfew.training.training_step import TrainingStep
from vlfew.workflows.assemble import (
    assemble,
    build_model,
    choose_losses,
    load_data_of,
    read_config,
)
from vlfew.workflows.train import fit, train

WORKERS = "training.num_workers=1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """One uninterrupted run, shared."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(CONFIG.format(root=images))
    done = vlfew("train", folder / "small.yaml", "--runs", folder)
    assert done.returncode == 0, done.stderr
    return folder / "small", done


def steps_logged(run: Path) -> list[int]:
    if not (run / "log.jsonl").is_file():
        return []
    lines = (run / "log.jsonl").read_text().splitlines()
    return [entry["step"] for line in lines if "loss" in (entry := json.loads(line))]


def start_and_wait(arguments: list[object], run: Path, step: int) -> subprocess.Popen[str]:
    """Starts a run and returns once it has logged `step`."""
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if max(steps_logged(run), default=0) >= step:
            return process
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"step {step} was not reached in time")


def test_a_finished_run_holds_all_it_promises(finished):
    run, done = finished
    for name in (
        "config.yaml",
        "model.safetensors",
        "model.json",
        "results.json",
        "log.jsonl",
        "report.html",
    ):
        assert (run / name).is_file(), name
    (result,) = json.loads((run / "results.json").read_text())
    assert result["protocol"] == "few-shot" and result["split"] == "test"
    assert 0.4 < result["accuracy"] <= 1.0  # chance is 1/3
    for key in (
        "ci95",
        "episodes",
        "seed",
        "input_size",
        "outside_data",
        "command",
        "ways",
        "shots",
        "queries",
    ):
        assert key in result, key
    assert result["outside_data"] == "" and result["input_size"] == [1, 16, 16]
    assert steps_logged(run) == [5, 10, 15, 20, 25, 30]
    assert "Traceback" not in done.stderr
    ((trained, frozen),) = re.findall(r"([\d,]+) parameters trained, ([\d,]+) frozen", done.stderr)
    assert f"{trained} trained, {frozen} frozen" in (run / "report.html").read_text()


def outcome(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status of `vlfew ...`, standard output and standard error."""
    with pytest.raises(SystemExit) as error:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return error.value.code, captured.out, captured.err


def test_the_command_of_a_result_gives_the_same_number(finished, tmp_path, capsys):
    run, _ = finished
    (result,) = json.loads((run / "results.json").read_text())
    again = tmp_path / "again.json"
    command = result["command"].split()
    assert command[0] == "vlfew"
    status, _, error = outcome(capsys, *command[1:], "--json", again)
    assert status == 0, error
    (repeated,) = json.loads(again.read_text())
    assert (repeated["accuracy"], repeated["ci95"]) == (result["accuracy"], result["ci95"])


def test_the_same_command_reports_a_finished_run(finished, capsys):
    run, _ = finished
    before = (run / "model.safetensors").stat().st_mtime_ns
    status, out, error = outcome(capsys, "train", run.parent / "small.yaml", "--runs", run.parent)
    assert status == 0 and "is finished" in error and "few-shot" in out
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_another_configuration_in_the_same_folder_is_an_error_with_the_difference(
    finished, capsys, monkeypatch
):
    run, _ = finished
    monkeypatch.setattr("vlfew.workflows.train.load_data_of", None)  # the data need not be read for that
    status, _, error = outcome(
        capsys, "train", run.parent / "small.yaml", "optim.lr=0.5", "--runs", run.parent
    )
    assert status == 2
    assert "optim.lr: 0.01 -> 0.5" in error and "name=small-2" in error
    assert len(error.strip().splitlines()) == 1


def test_data_that_are_missing_are_the_first_mistake_of_a_finished_run(finished, capsys):
    run, _ = finished
    status, _, error = outcome(
        capsys, "train", run.parent / "small.yaml", "data.root=nowhere", "--runs", run.parent
    )
    assert status == 2 and "nowhere is not a folder" in error


def test_the_number_of_workers_is_configured_and_may_change(finished, capsys):
    run, _ = finished
    workers = [
        assemble(read_config(run.parent / "small.yaml", o)).loader.num_workers for o in ((), (WORKERS,))
    ]
    assert workers == [0, 1]
    assert outcome(capsys, "train", run.parent / "small.yaml", WORKERS, "--runs", run.parent)[0] == 0


def test_killed_and_resumed_gives_the_same_weights_to_the_bit(finished, config):
    reference, _ = finished
    run = config.parent / "small"
    arguments = ["train", config, "--runs", config.parent]
    process = start_and_wait(arguments, run, 15)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "model.json").exists(), "the run was over before it was killed"
    done = vlfew(*arguments)
    assert done.returncode == 0, done.stderr
    assert steps_logged(run) == steps_logged(reference)
    # The last checkpoint, optimizer included: the best model may be from before the kill.
    for name in ("model.safetensors", "checkpoints/step-00000030.safetensors"):
        once, twice = load_file(reference / name), load_file(run / name)
        assert once.keys() == twice.keys()
        assert all((once[k] == twice[k]).all() for k in once)


def skip_where_ignored(sent):
    """Processes started by nohup ignore SIGHUP, and so do theirs."""
    if signal.getsignal(sent) is signal.SIG_IGN:
        pytest.skip(f"{sent.name} is ignored here")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_ends_the_process_after_the_state_is_saved(config, sent):
    skip_where_ignored(sent)
    run = config.parent / "small"
    arguments = [
        "train",
        config,
        "optim.steps=100000",
        "training.eval_every=100000",
        "--runs",
        config.parent,
    ]
    process = start_and_wait(arguments, run, 5)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == -sent  # 143 in a shell for SIGTERM
    step = int(re.search(r"stopped at step (\d+) of", stderr)[1])
    assert (run / "checkpoints" / f"step-{step:08d}.json").is_file()
    assert "Traceback" not in stderr


def test_a_terminal_that_is_closed_saves_the_state(config):
    """The other end of a pseudo-terminal is closed: SIGHUP, and nothing can be written any more."""
    skip_where_ignored(signal.SIGHUP)
    run = config.parent / "small"
    arguments = ["train", config, "optim.steps=100000", "training.eval_every=100000", "--runs", config.parent]
    pid, terminal = os.forkpty()
    if pid == 0:  # the child, whose controlling terminal it is
        os.execve(command(*arguments)[0], command(*arguments), ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not (run / "log.jsonl").exists() or len(steps_logged(run)) < 5:
        os.read(terminal, 10_000)
        assert time.monotonic() < deadline
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGHUP
    assert any((run / "checkpoints").glob("step-*.json"))


def test_a_signal_reaches_the_program_around_the_training(config, monkeypatch):
    """As pytest or a notebook: Ctrl-C ends the training after its step, and then the program."""
    forward, calls = TrainingStep.forward, iter(range(1, 10**6))

    def interrupted(self, *arguments):
        if next(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return forward(self, *arguments)

    monkeypatch.setattr(TrainingStep, "forward", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(config, [], config.parent)
    assert signal.getsignal(signal.SIGINT) is before
    assert (config.parent / "small/checkpoints/step-00000003.json").is_file()
    assert train(config, [], config.parent).state == "finished"


def test_a_signal_in_the_last_step_is_not_lost(config):
    class Interrupt(Callback):
        def on_step_end(self, trainer):
            if trainer.state.step == trainer.steps:
                signal.raise_signal(signal.SIGINT)

    checked, run = read_config(config, ["optim.steps=2"]), RunFolder(config.parent / "small")
    run.claim(checked)
    with pytest.raises(KeyboardInterrupt):
        fit(checked, run, callbacks=[Interrupt()])
    assert (run.checkpoints / "step-00000002.json").is_file()


def test_a_callback_that_fails_at_the_end_leaves_nothing_behind(config):
    class Failing(Callback):
        def teardown(self, trainer):
            raise OSError("the tracker's network is down")

    checked, run = read_config(config, ["optim.steps=2"]), RunFolder(config.parent / "small")
    run.claim(checked)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="network is down"):
        fit(checked, run, callbacks=[Failing()])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def killed(tmp_path_factory, images):
    """A run that was killed at step 20 or a little later of 30."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "small.yaml").write_text(CONFIG.format(root=images))
    process = start_and_wait(["train", folder / "small.yaml", "--runs", folder], folder / "small", 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder / "small"


@pytest.fixture
def stopped(config, killed):
    """A copy of the killed run, next to its configuration: `(config, run, newest checkpoint)`."""
    run = Path(shutil.copytree(killed, config.parent / "small"))
    return config, run, max((run / "checkpoints").glob("step-*.safetensors"))


def test_damaged_checkpoints_are_an_error_that_names_them(stopped):
    config, _, newest = stopped
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped)):
        newest.write_bytes(damaged)
        with pytest.raises(VlfewError, match=rf"{newest.name} is damaged.*remove") as error:
            train(config, [], config.parent)
        assert "\n" not in str(error.value)
        assert newest.read_bytes() == damaged  # nothing is deleted for the user
    # The way out that the message names works.
    newest.with_suffix(".json").unlink()
    assert train(config, [], config.parent).state == "finished"


def test_a_checkpoint_of_an_earlier_version_is_one_line(stopped):
    """Before version 0.2 the state of the training was in the JSON file, and the tensors had no metadata."""
    config, run, newest = stopped
    save_file(load_file(newest), newest)
    about = {"sha256": sha256(newest), "progress": {"step": 20}, "about": {}}
    newest.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(
        VlfewError, match=rf"{newest.name} was written by an earlier version.*remove {run}"
    ) as error:
        train(config, [], config.parent)
    assert "\n" not in str(error.value)


def test_a_damaged_best_is_found_at_the_start_and_can_be_left_behind(stopped):
    config, run, _ = stopped
    best = run / "checkpoints" / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(VlfewError, match=r"best\.safetensors is damaged"):
        train(config, [], config.parent)
    assert max(steps_logged(run)) <= 25  # not at the end of training
    best.with_suffix(".json").unlink()
    assert train(config, [], config.parent).state == "finished"


def test_resume_with_a_changed_config_shows_the_difference(stopped):
    config, _, _ = stopped
    with pytest.raises(VlfewError, match=r"augment.rotate: 10\.0 -> 20\.0"):
        train(config, ["augment.rotate=20"], config.parent)


def test_a_mistake_does_not_claim_the_folder(config):
    """The settings that the message proposes go into the same folder."""
    with pytest.raises(VlfewError, match=r"and sampling\.classes_per_batch needs 50"):
        train(config, ["sampling.classes_per_batch=50"], config.parent)
    run = train(config, ["sampling.classes_per_batch=8", "optim.steps=2"], config.parent)
    assert run.state == "finished"


def test_an_impossible_evaluation_is_an_error_before_training(config):
    with pytest.raises(VlfewError, match="need 9 classes, but the split has 4"):
        train(config, ["evaluate=[{protocol: few-shot, ways: 9, queries: 2}]"], config.parent)
    with pytest.raises(VlfewError, match=r"test0\d|images"):
        train(config, ["evaluate=[{protocol: few-shot, ways: 3, queries: 40}]"], config.parent)
    assert not (config.parent / "small" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model_selection.method=weighted_l1",
            "model_selection.method=weighted_l1: this model has no trained weighted_l1; train",
        ),
        (
            "evaluate=[{protocol: few-shot}, {protocol: verification, pairs: 8, similarity: cross_attention}]",
            "evaluate.1.similarity=cross_attention: this model has no trained cross_attention; train",
        ),
    ],
)
def test_a_method_that_the_model_does_not_have_is_an_error_before_training(
    config, override, message, monkeypatch
):
    monkeypatch.setattr(TrainingStep, "forward", None)
    ways = ["evaluate.0.ways=3", "evaluate.0.queries=3"]
    with pytest.raises(VlfewError, match=re.escape(message)) as error:
        train(config, [override, *ways], config.parent)
    assert "\n" not in str(error.value)


def test_evaluations_do_not_influence_the_initial_weights(config):
    """A method with weights is built to check whether the model has it, which draws random numbers."""
    overrides = [
        "image={backbone: conv4, widths: [8, 8]}",
        "embedding_dim=null",
        "similarity=cross_attention",
        "objective=[{loss: cross_attention, ways: 2}]",
    ]
    drawn = []
    for method in ("default", "cross_attention_transductive"):
        read = read_config(config, [*overrides, f"evaluate.0.method={method}"])
        data = load_data_of(read)
        build_model(read, choose_losses(read, data), len(data.classes("train")))
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_evaluations_may_change_until_the_results_are_there(stopped):
    config, run, _ = stopped
    other = "evaluate=[{protocol: few-shot, ways: 2, queries: 2, episodes: 20}]"
    assert train(config, [other], config.parent).state == "finished"
    assert json.loads((run / "results.json").read_text())[0]["ways"] == 2


def test_not_a_number_stops_names_the_step_and_keeps_the_checkpoint(config, monkeypatch):
    """From step 13 on the loss is NaN: the checkpoint of step 10 stays, and is named."""
    from vlfew.training.training_step import TrainingStep

    forward, calls = TrainingStep.forward, iter(range(1, 10**6))

    def spoiled(self, *arguments):
        loss, terms = forward(self, *arguments)
        return loss * (float("nan") if next(calls) >= 13 else 1.0), terms

    monkeypatch.setattr(TrainingStep, "forward", spoiled)
    with pytest.raises(
        VlfewError, match="not been finite since step 13; the last good checkpoint is step-00000010"
    ):
        train(config, [], config.parent)
    run = config.parent / "small"
    assert not (run / "model.json").exists()
    state = load_file(run / "checkpoints" / "step-00000010.safetensors")
    assert all(value.isfinite().all() for value in state.values())


def test_a_step_that_blows_up_is_never_saved(config, capsys):
    blown = ("optim.lr=1e30", "optim.warmup_steps=0", "optim.max_grad_norm=null")
    status, _, error = outcome(capsys, "train", config, *blown, "--runs", config.parent)
    assert status == 2 and "the loss or the weights have not been finite since step" in error
    assert "Traceback" not in error
    for path in (config.parent / "small").rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_early_stopping_keeps_the_best(config):
    train(
        config,
        ["training.patience=1", "training.eval_every=5", "optim.lr=1e-9", "optim.steps=1000"],
        config.parent,
    )
    run = config.parent / "small"
    assert max(steps_logged(run)) <= 100
    validations = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = {v["step"]: v["validation"]["accuracy"] for v in validations if "validation" in v}
    metadata = json.loads((run / "model.json").read_text())["metadata"]
    assert scores[metadata["best_step"]] == max(scores.values())


def coded(config, of_split):
    """The images of a configuration with codes as class names, in some splits."""
    root = Path(yaml.safe_load(config.read_text())["data"]["root"])
    for number, folder in enumerate(sorted(root.glob("*/*"))):
        split = folder.parent.name
        name = f"s{number}" if split in of_split else f"{split} thing {number}"
        shutil.copytree(folder, config.parent / "coded" / split / name)
    return f"data.root={config.parent / 'coded'}"


def test_class_names_that_are_codes_drop_the_alignment(config, capsys):
    status, _, error = outcome(
        capsys,
        "train",
        config,
        coded(config, ("train", "val", "test")),
        "text.encoder=minilm",
        "objective=[{loss: alignment_softmax}]",
        "evaluate=[{protocol: zero-shot}, {protocol: few-shot, ways: 3, queries: 3, episodes: 20}]",
        "model_selection={protocol: zero-shot, split: val}",
        "optim.steps=5",
        "--runs",
        config.parent,
    )
    assert status == 0, error
    assert "alignment_softmax dropped: class names are codes" in error
    assert "the fallback contrastive" in error
    (result,) = json.loads((config.parent / "small" / "results.json").read_text())
    assert "alignment_softmax dropped" in result["note"]


def test_alignment_goes_on_with_the_classes_that_have_text(config, capsys):
    """All validation classes have codes as names, and a training class has."""
    override = coded(config, ("val",))
    train = config.parent / "coded" / "train"
    (train / "train thing 8").rename(train / "S7")
    status, _, error = outcome(
        capsys,
        "train",
        config,
        override,
        "text.encoder=minilm",
        "objective=[{loss: alignment_softmax}]",
        "evaluate=[{protocol: zero-shot}, {protocol: zero-shot, split: val}]",
        "model_selection={protocol: zero-shot, split: val}",
        "sampling={classes_per_batch: 4, images_per_class: 2, extra_text_negatives: 9}",
        "optim.steps=5",
        "--runs",
        config.parent,
    )
    assert status == 0, error
    assert "5 of 16 classes without text, since the name looks like a code: S7, s12, s13, s14, s15" in error
    assert "model selection by few-shot instead of zero-shot" in error and "dropped" not in error
    assert "evaluation zero-shot skipped: class names of folder are codes, not text (such as 's12')" in error
    (result,) = json.loads((config.parent / "small" / "results.json").read_text())
    assert result["split"] == "test" and "5 of 16 classes without text" in result["note"]
    (entry,) = (e for e in RunFolder(config.parent / "small").read_log() if "data" in e)
    assert entry["data"]["without_text"] == ["S7", "s12", "s13", "s14", "s15"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sampling.classes_per_batch=50",
            "split 'train' has 8 classes, and sampling.classes_per_batch needs 50",
        ),
        ("model_selection.split=test", "model_selection.split must be 'val'"),
        ("similarity=weighted_l1", "similarity: weighted_l1 is learned"),
        ("training.mixed_precision=fp16", "fp16 needs a GPU"),
        ("data.root=/nowhere", "/nowhere is not a folder"),
        ("image.frozen=true embedding_dim=null", "nothing is trained"),
    ],
)
def test_impossible_settings_are_one_line(config, override, message, monkeypatch):
    with pytest.raises(VlfewError, match=re.escape(message)) as error:
        train(config, override.split(), config.parent)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model_selection={protocol: verification, calibration_split: test}",
            "model_selection.calibration_split must be 'val', not 'test'",
        ),
        (
            "model_selection={protocol: few-shot, support_split: test}",
            "model_selection.support_split must be 'train', not 'test'",
        ),
        ("objective=[{loss: map_cross_entropy}]", "is a projection that no loss of the objective trains"),
    ],
)
def test_test_images_choose_nothing_and_nothing_stays_random(config, override, message):
    with pytest.raises(VlfewError, match=re.escape(message)) as error:
        train(config, [override], config.parent)
    assert "\n" not in str(error.value)


def test_patience_waits_for_a_stage_to_come(config):
    stages = "objective=[{loss: cross_entropy, stop: 0.5}, {loss: triplet, start: 0.5}]"
    # With a learning rate of next to nothing no validation is better than the first.
    still = ["optim.steps=12", "optim.lr=1e-9", "training.eval_every=1", "training.patience=2"]
    run = train(config, [stages, *still], config.parent)
    assert max(entry["step"] for entry in run.read_log()) == 8


def test_two_processes_do_not_train_in_one_folder(config):
    run = RunFolder(config.parent / "small")
    with run.locked(), pytest.raises(VlfewError, match=r"another process is training in .*small"):
        train(config, [], config.parent)
    assert not (run.path / "config.yaml").exists()


def test_skipped_images_are_named_wherever_results_are_shown(config, images, tmp_path, capsys):
    shutil.copytree(images, tmp_path / "images")
    for number in range(7):
        (tmp_path / "images" / "train" / "train00" / f"bad{number}.png").write_text("no image")
    arguments = [f"data.root={tmp_path / 'images'}", "data.on_bad_image=skip", "optim.steps=2"]
    with pytest.raises(VlfewError, match=r"bad0.png: cannot be read.*data.on_bad_image=skip"):
        train(config, [arguments[0]], tmp_path)
    named = (
        "7 unreadable images skipped: "
        + ", ".join(f"train/train00/bad{n}.png" for n in range(5))
        + " and 2 more"
    )
    run = train(config, arguments, tmp_path)
    assert capsys.readouterr().err.count(named) == 2  # with the data and with the table
    assert named in run.report.read_text()
    (result,) = json.loads(run.results.read_text())
    assert result["skipped_images"] == 7 and named in result["note"]
    train(config, arguments, tmp_path)
    assert named in capsys.readouterr().err
    page = ["--out", str(tmp_path / "comparison.html")]
    few = ["--ways", "3", "--queries", "2", "--episodes", "5"]
    for command_line in (
        ["evaluate", "few-shot", str(run.path), *few],
        ["adapt", str(run.path), "--methods", "prototypes", "--shots", "1", "--repeats", "2", "--no-cache"],
        ["report", str(run.path), *page],
    ):
        with pytest.raises(SystemExit) as error:
            main(command_line)
        assert error.value.code == 0
        assert named in capsys.readouterr().err
    for written in (tmp_path / "comparison.html", *run.path.rglob("adapt.*")):
        assert named in written.read_text()
