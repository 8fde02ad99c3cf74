"""A whole run: train, evaluate what the configuration lists, report."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.core.config_file import load_config
from vlfew.core.errors import ConfigError, DataError, VlfewError, error_context
from vlfew.core.files import file_stem
from vlfew.training.run_folder import RunFolder, member_names
from vlfew.workflows.assemble import load_configured_data, read_config, use_all_cores

if TYPE_CHECKING:
    from accelerate import Accelerator

    from vlfew.core.config import Config
    from vlfew.data.labeled_images import LabeledImages
    from vlfew.evaluation.adaptation.compare import Adaptation
    from vlfew.evaluation.results import Result
    from vlfew.training.tune.study import Pruner


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


def run_search(
    config_file: Path,
    overrides: Sequence[str],
    space_file: Path,
    runs: Path,
    *,
    trials: int,
    pruner: Pruner,
    seed: int,
) -> Path:
    """Searches for settings; goes on where an earlier call left off, until there are `trials` in all.

    Args:
        config_file: YAML of the configuration.
        overrides: `key=value`, for every trial.
        space_file: YAML of the settings to try.
        runs: folder of run folders; the trials land in `runs/<config.name>-tune/`.
        trials: how many are wanted.
        pruner: of trials that fall behind.
        seed: of the suggestions.

    Returns:
        The folder of the search.

    Raises:
        VlfewError: anything the user can mend.
    """
    if find_spec("optuna") is None:
        raise ConfigError("a search takes Optuna, which is not installed (pip install 'vlfew[tune]')")
    from rich.console import Console

    from vlfew.report.tune_report import Searched, search_table, write_tuned
    from vlfew.workflows.tune import Search

    search = Search(config_file, overrides, space_file, runs, trials=trials, pruner=pruner, seed=seed)
    with search.opened() as study:

        def found() -> Searched:
            best = study.best
            evaluate = "" if best is None else _evaluate_trial(search.config, search.run_of(best))
            return Searched(search, study.trials, best, study.importances(), evaluate)

        for _ in search.go_on(study, _report_trial, _say):
            # A search takes hours: its page can be read all along.
            write_tuned(found())
        searched = found()
        page = write_tuned(searched)
    if searched.best is None:
        why = next((t.why for t in reversed(searched.trials) if t.why), "all were pruned")
        raise ConfigError(
            f"{search.path}: no trial was trained to its end ({searched.counts}); the last: {why}"
        )
    console = Console()
    # Into a file or pipe, rich would fold the table to 80 columns.
    Console(width=console.width if console.is_terminal else 160).print(search_table(searched))
    print(f"\n{searched.warning}\n")
    print(f"best     trial {searched.best.number}: {' '.join(searched.best.overrides)}")
    print(f"train    {search.command(searched.best)}")
    print(f"evaluate {searched.evaluate}")
    _say(f"page: {page}")
    return search.path


def _report_trial(run: RunFolder, data: LabeledImages) -> None:
    """The page of a trial, with images of the validation split: no trial sees the test split."""
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.results import write_results
    from vlfew.models.serialization import load_model
    from vlfew.report import write_report

    write_report(run, EvaluationContext(load_model(run.path).to(scoring_device()), data), [], split="val")
    write_results(run.results, [])


def _evaluate_trial(config: Config, run: RunFolder) -> str:
    """The command line of the first evaluation that the configuration asks for, in the trial's own folder."""
    from vlfew.models.serialization import read_spec

    wanted = evaluations(config, read_spec(run.path).text is not None)
    protocol, options = next(iter(wanted), ("few-shot", {}))
    return evaluate_command(str(run.path), protocol, None, options)


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
            [*overrides, f"{repeat.over}={json.dumps(value)}", f"name={config.name}/{name}", "repeat=null"],
        )
        for value, name in zip(repeat.values, member_names(repeat), strict=True)
    ]
    run = RunFolder(runs / config.name)
    main = int(os.environ.get("RANK", "0")) == 0
    if main:
        run.claim(config)
    with _vacated(run, main):
        for number, member in enumerate(members, 1):
            if main:
                _say(f"run {number} of {len(members)}: {member.name}")
            _run_one(member, runs, accelerators)
    if main:
        own = [read_results(runs / member.name / "results.json") for member in members]
        results = [merge_results(same, repeat.over, repeat.values) for same in zip(*own, strict=True)]
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
    with run.held() if main else nullcontext(), _vacated(run, main):
        _work(config, run, main, accelerators)
    return run


@contextmanager
def _vacated(run: RunFolder, main: bool) -> Iterator[None]:
    """Clears away the folder of a run that is refused before it has begun."""
    try:
        yield
    except VlfewError:
        if main:
            run.remove_if_empty()
        raise


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
        from vlfew.training.trainer import Trainer

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


def _check_evaluations(config: Config, data: LabeledImages) -> None:
    """Finds out before training whether everything that is asked for afterwards can be answered."""
    from vlfew.evaluation import PROTOCOLS
    from vlfew.evaluation.evaluate import check_protocol

    for protocol, options in evaluations(config, data.names_are_text):
        split = PROTOCOLS.checked(protocol, options).get("split")
        if split is not None and split not in data.splits:
            why = f": {data.note}" if data.note else ""
            raise DataError(
                f"{protocol} is asked for on the split {split!r}, which {data.name} as configured has not{why}; "
                "train without figures by evaluate=[], or name another split"
            )
        with error_context(f"evaluate: {protocol}"):
            check_protocol(protocol, options, data)


def print_results(results: list[Result]) -> None:
    """The results as a table on standard output; nothing where nothing was evaluated."""
    if not results:
        return
    from rich.console import Console

    from vlfew.report.tables import results_table

    console = Console()
    # Into a file or pipe, rich would fold the table to 80 columns.
    Console(width=console.width if console.is_terminal else 160).print(results_table(results))


def _evaluate_and_report(config: Config, data: LabeledImages, run: RunFolder) -> None:
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.evaluate import evaluate, save_per_episode
    from vlfew.evaluation.results import write_results
    from vlfew.models.serialization import load_model, read_metadata
    from vlfew.report import write_report

    model, metadata = load_model(run.path).to(scoring_device()), read_metadata(run.path)
    context = EvaluationContext(model, data)
    notes = notes_of(metadata, data)
    results: list[Result] = []
    for number, entry in enumerate(wanted := evaluations(config, model.has_text)):
        protocol, options = entry
        result, outcome = evaluate(
            context,
            protocol,
            options,
            command=evaluate_command(str(run.path), protocol, config.data.name, options),
            trained_on=str(metadata["trained_on"]),
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
    shown = "test" if "test" in data.splits else "train"
    report = write_report(run, context, results, split=shown)
    # Last, since this file is what makes the run a finished one.
    write_results(run.results, results)
    print_results(results)
    _say(f"report: {report}")


def evaluations(config: Config, words: bool) -> list[tuple[str, dict[str, Any]]]:
    """The configured evaluations that the run can answer: without words, not those that need them."""
    from vlfew.evaluation import NEEDS_TEXT

    return [(e.protocol, e.options) for e in config.evaluate if words or e.protocol not in NEEDS_TEXT]


def notes_of(metadata: dict[str, Any], data: LabeledImages) -> list[str]:
    """What a reader of a figure must know of the training, and of data that are no longer what they were."""
    notes = list(metadata.get("notes", []))
    trained_on, fingerprint = str(metadata.get("trained_on", "")), metadata.get("data_fingerprint")
    if trained_on.rpartition("/")[0] != data.name or fingerprint in (None, data.fingerprint):
        return notes
    seen = "classes" if data.split_by == "class" else "images"
    return [
        *notes,
        f"not the data it was trained on ({data.name} {fingerprint}, now {data.fingerprint}): "
        f"{seen} of the test split may have been trained on",
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


def adapt_folder(run: str, out: Path | None, data: str | None, split: str, base_to_new: bool) -> Path:
    """Where a comparison of methods goes.

    Raises:
        ConfigError: the model is no run folder, and no folder is named; or it is several runs.
    """
    if members := RunFolder(Path(run)).members:
        raise ConfigError(
            f"{run} is {len(members)} runs, and methods are compared on one model: name one, such as {members[0].path}"
        )
    if out is not None:
        return out
    if not Path(run).is_dir():
        raise ConfigError(f"{run} is no run folder that results could go into; name one with --out")
    own = load_config(RunFolder(Path(run)).config).data.name if RunFolder(Path(run)).config.is_file() else ""
    parts = [
        file_stem(data or own),
        *([split] if split != "test" else []),
        *(["base-to-new"] if base_to_new else []),
    ]
    return Path(run) / "adapt" / "-".join(parts)


def set_aside(folder: Path, command: str) -> Path | None:
    """Gives a comparison in `folder` that another command made a name of its own, `adapt-1.json` and so on.

    Returns:
        The file that it is in now; None where there was none, or it was made by the same command.
    """
    kept = folder / "adapt.json"
    try:
        if not kept.is_file() or json.loads(kept.read_text(encoding="utf-8")).get("command") == command:
            return None
    except (ValueError, AttributeError):
        pass  # whatever it is, it is not ours to replace
    number = next(n for n in itertools.count(1) if not (folder / f"adapt-{n}.json").exists())
    for file in (folder / "adapt.html", kept):
        if file.is_file():
            file.rename(folder / f"adapt-{number}{file.suffix}")
    return folder / f"adapt-{number}.json"


def adapt_command(
    run: str,
    data: str | None,
    root: Path | None,
    settings: Sequence[str],
    asked: dict[str, Any],
    fixed: Sequence[str],
) -> str:
    """The command line that makes a comparison of methods again, with all that matters to its figures."""
    words = ["vlfew", "adapt", run]
    for flag, given in (("--data", data), ("--root", root)):
        words += [] if given is None else [flag, str(given)]
    for key in ("split", "methods", "shots", "repeats", "ways", "tune_on", "on_small_class", "descriptions"):
        value = asked[key]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words += [] if value is None else ["--" + key.replace("_", "-"), text]
    words += ["--base-to-new"] if asked["base_to_new"] else []
    templates = [] if asked["templates"] == ["{}"] else asked["templates"]
    repeated = {"--template": templates, "--fix": fixed, "--set": settings}
    for flag, values in repeated.items():
        words += [word for value in values for word in (flag, value)]
    return shlex.join(words)


def print_adaptation(found: Adaptation) -> None:
    """A comparison of methods as a table on standard output."""
    from rich.console import Console

    from vlfew.report.adaptation_report import adaptation_table

    console = Console()
    # Into a file or pipe, rich would fold the table to 80 columns.
    Console(width=console.width if console.is_terminal else 160).print(adaptation_table(found))
    what = "new classes have as many; " if found.base_to_new else ""
    _say(f"chance     {100 * found.chance:.3g}%; {what}{found.chosen_by}")
    for note in found.notes:
        _say(f"note       {note}")
    if found.left_out:
        _say(f"note       left out, since they need words: {', '.join(found.left_out)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
