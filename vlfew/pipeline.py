"""A whole run: train, evaluate what the configuration lists, report."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.training.run import RunFolder, member_names
from vlfew.training.setup import load_configured_data, read_config, use_all_cores

if TYPE_CHECKING:
    from accelerate import Accelerator

    from vlfew.config import Config
    from vlfew.data.images import LabelledImages
    from vlfew.evaluation.results import Result


def run_pipeline(config_file: Path, overrides: Sequence[str], runs: Path) -> RunFolder:
    """Trains, evaluates and reports; goes on where an earlier call left off.

    Args:
        config_file: YAML.
        overrides: `key=value`.
        runs: folder of run folders; the run lands in `runs/<config.name>/`.

    Raises:
        VlfewError: anything the user can mend.
    """
    config = read_config(config_file, overrides)
    accelerators: list[Accelerator] = []
    try:
        if config.repeat is None:
            return _run_one(config, runs, accelerators)
        return _run_repeated(config, config_file, overrides, runs, accelerators)
    finally:
        if accelerators:
            # Once for all: it takes the process group down.
            accelerators[-1].end_training()


def _run_repeated(
    config: Config, config_file: Path, overrides: Sequence[str], runs: Path, accelerators: list[Accelerator]
) -> RunFolder:
    """A run for each value of `config.repeat`, and their results as one."""
    import numpy as np

    from vlfew.evaluation.evaluate import save_per_episode
    from vlfew.evaluation.repeats import merge_results
    from vlfew.evaluation.results import read_results, write_results
    from vlfew.report.comparison import compare_runs, write_comparison

    repeat = config.repeat
    assert repeat is not None
    # All are read before the first is trained: a value that is no good is told at once.
    members = [
        read_config(
            config_file,
            [*overrides, f"{repeat.key}={json.dumps(value)}", f"name={config.name}/{name}", "repeat=null"],
        )
        for value, name in zip(repeat.values, member_names(repeat), strict=True)
    ]
    run = RunFolder(runs / config.name)
    main = int(os.environ.get("RANK", "0")) == 0
    if main:
        run.claim(config)
    for number, member in enumerate(members, 1):
        if main:
            _say(f"run {number} of {len(members)}: {member.name}")
        _run_one(member, runs, accelerators)
    if main:
        own = [read_results(runs / member.name / "results.json") for member in members]
        results = [merge_results(same, repeat.key, repeat.values) for same in zip(*own, strict=True)]
        for number, result in enumerate(results):
            result.command = result.command.replace(str(runs / members[0].name), str(run.path), 1)
            kept = [same[number].get("per_episode") for same in own]
            if all(kept):
                name = f"episodes/{number:02d}-{result.protocol}.npy"
                parts = [np.load(runs / m.name / k) for m, k in zip(members, kept, strict=True)]
                save_per_episode(run.path / name, parts)
                results[number] = result.model_copy(update={"per_episode": name})
        write_results(run.results, results)
        write_comparison(compare_runs([run.path]), run.report)
        _say(f"{run.path}: over {len(members)} runs")
        print_results(results)
        _say(f"report: {run.report}")
    return run


def _run_one(config: Config, runs: Path, accelerators: list[Accelerator]) -> RunFolder:
    """Trains, evaluates and reports one model; leaves in `accelerators` what ran it."""
    run = RunFolder(runs / config.name)
    main = int(os.environ.get("RANK", "0")) == 0
    with run.held() if main else nullcontext():
        _work(config, run, main, accelerators)
    return run


def _work(config: Config, run: RunFolder, main: bool, accelerators: list[Accelerator]) -> None:
    """What is left to do of a run."""
    state = run.claim(config) if main else run.state
    if state == "finished":
        from vlfew.evaluation.results import read_results

        if main:
            _say(f"{run.path} is finished; its results:")
            print_results(read_results(run.results))
            _say(f"report: {run.report}  (train again under another name=..., or remove the folder)")
        return
    use_all_cores()
    data = load_configured_data(config)
    _check_evaluations(config, data)
    trainer = None
    if state != "trained":
        from vlfew.training.loop import Trainer

        trainer = Trainer(config, data, run)
        accelerators[:] = [trainer.accelerator]
        if main:
            for line in trainer.describe():
                _say(line)
        trainer.train()
    if main:
        _evaluate_and_report(config, data, run)
    if trainer is not None:
        trainer.accelerator.wait_for_everyone()
        for tracker in trainer.accelerator.trackers:
            tracker.finish()


def _check_evaluations(config: Config, data: LabelledImages) -> None:
    """Finds out before training whether everything that is asked for afterwards can be answered."""
    from vlfew.evaluation.evaluate import check_protocol

    for protocol, options in evaluations(config, data.names_are_words):
        check_protocol(protocol, options, data)


def print_results(results: list[Result]) -> None:
    """The results as a table on standard output."""
    from rich.console import Console

    from vlfew.report.table import results_table

    console = Console()
    # Into a file or pipe, rich would fold the table to 80 columns.
    Console(width=console.width if console.is_terminal else 160).print(results_table(results))


def _evaluate_and_report(config: Config, data: LabelledImages, run: RunFolder) -> None:
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.evaluate import evaluate, save_per_episode
    from vlfew.evaluation.results import write_results
    from vlfew.evaluation.subject import Subject
    from vlfew.models.saved import load_model, read_about
    from vlfew.report import write_report

    model, about = load_model(run.path).to(scoring_device()), read_about(run.path)
    subject = Subject(model, data)
    notes = [*about.get("notes", []), *data_notes(about, data)]
    results: list[Result] = []
    for number, entry in enumerate(wanted := evaluations(config, model.has_text)):
        protocol, options = entry
        result, outcome = evaluate(
            subject,
            protocol,
            options,
            command=evaluate_command(str(run.path), protocol, config.data.name, options),
            trained_on=str(about["trained_on"]),
            outside_data=model.spec.outside_data,
        )
        result.note = "; ".join(filter(None, [result.note, *notes]))
        if outcome.per_episode is not None:
            name = f"episodes/{number:02d}-{protocol}.npy"
            save_per_episode(run.path / name, [outcome.per_episode])
            result = result.model_copy(update={"per_episode": name})
        results.append(result)
    left_out = len(config.evaluate) - len(wanted)
    if left_out:
        _say(f"note       {left_out} evaluation(s) by words left out: this run has none")
    report = write_report(run, subject, results)
    # Last, since this file is what makes the run a finished one.
    write_results(run.results, results)
    print_results(results)
    _say(f"report: {report}")


def evaluations(config: Config, words: bool) -> list[tuple[str, dict[str, Any]]]:
    """The configured evaluations that the run can answer: without words, not those that need them."""
    from vlfew.evaluation import NEEDS_WORDS

    return [(e.protocol, e.options) for e in config.evaluate if words or e.protocol not in NEEDS_WORDS]


def data_notes(about: dict[str, Any], data: LabelledImages) -> list[str]:
    """What is to be said when the data a run was trained on are no longer what they were."""
    trained_on, fingerprint = str(about.get("trained_on", "")), about.get("data_fingerprint")
    if trained_on.rpartition("/")[0] != data.name or fingerprint in (None, data.fingerprint):
        return []
    seen = "classes" if data.split_by == "class" else "pictures"
    return [
        f"not the data it was trained on ({data.name} {fingerprint}, now {data.fingerprint}): "
        f"{seen} of the test split may have been trained on"
    ]


def evaluate_command(
    run: str,
    protocol: str,
    data: str | None,
    options: dict[str, Any],
    root: Path | None = None,
    settings: Sequence[str] = (),
) -> str:
    """The command line that makes a result of a run again."""
    words = ["vlfew", "evaluate", run, "--protocol", protocol]
    for flag, given in (("--data", data), ("--root", root)):
        words += [] if given is None else [flag, str(given)]
    for setting in settings:
        words += ["--set", setting]
    for key, value in options.items():
        flag = {"templates": "--template"}.get(key, "--" + key.replace("_", "-"))
        for one in value if isinstance(value, list) else [value]:
            words += [flag, str(one)]
    return shlex.join(words)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
