"""`vlfew train`: train, evaluate what the configuration lists, and report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from torch import distributed

from vlfew.core.config import Config
from vlfew.core.config_diff import flat_values
from vlfew.core.config_file import load_saved_config
from vlfew.core.console import is_main_process, log, log_note
from vlfew.core.errors import RunError, VlfewError
from vlfew.core.files import check_writable, keeping
from vlfew.core.recipes import find_recipe
from vlfew.data.file_hashes import verifying
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.results import read_results, write_results
from vlfew.models.serialization import read_metadata, save_model
from vlfew.training.callbacks import (
    Callback,
    Checkpointing,
    DivergenceCheck,
    EarlyStopping,
    JsonlLogger,
    ProgressBar,
    StopSignal,
)
from vlfew.training.data_statistics import fit_training_means
from vlfew.training.hardware import closing_process_group, use_all_cores
from vlfew.training.run_folder import RunFolder, State, member_names
from vlfew.training.trackers import TrackerLogger
from vlfew.training.trainer import Trainer
from vlfew.training.validation import Validation
from vlfew.workflows.assemble import Assembly, assemble, load_data_of, read_config
from vlfew.workflows.evaluate import (
    check_configured_evaluations,
    evaluate_run,
    merge_member_results,
    print_results,
)


def train(
    config_path: str | Path, overrides: Sequence[str] = (), runs: str | Path = Path("runs")
) -> RunFolder:
    """Trains, evaluates and reports; resumes where an earlier call was interrupted.

    Args:
        config_path: YAML file, or the name of a recipe (`vlfew recipes`).
        overrides: `key=value`.
        runs: folder of run folders; the run goes to `runs/<config.name>/`.

    Returns:
        The run folder. With `repeat` it holds a run folder for each value.

    Raises:
        VlfewError: a mistake in configuration or data, a diverged training.
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
    """
    config_path, runs = find_recipe(config_path), Path(runs)
    config = read_config(config_path, overrides)
    if RunFolder(runs / config.name).state != "finished":
        check_writable(runs / config.name / "config.yaml", "--runs")
    with closing_process_group():
        if config.repeat is None:
            return _train_and_evaluate(config, runs)
        return _train_repeatedly(config, config_path, overrides, runs)


def _train_and_evaluate(config: Config, runs: Path) -> RunFolder:
    """A single run, or what is left of it."""
    run, is_main = RunFolder(runs / config.name), is_main_process()
    locked = is_main and run.state != "finished"  # a finished run may lie in a read-only folder
    with (
        run.locked() if locked else nullcontext(),
        _removed_if_refused(run),
        keeping(run.path, lambda: run.kept),
    ):
        state = _claim(run, config) if is_main else run.state
        if state == "finished":
            if verifying() and (now := load_data_of(config).fingerprint) != (
                before := read_metadata(run.path).get("data_fingerprint", now)
            ):
                raise RunError(
                    f"{run.path} is finished, and its data have changed since ({before}, now {now}); train again under "
                    "another name=..., or remove the folder"
                )
            log(f"{run.path} is finished; its results:")
            if is_main:
                print_results(read_results(run.results))
            log(f"report: {run.report}  (train again under another name=..., or remove the folder)")
            return run
        use_all_cores()
        data = load_data_of(config)
        check_configured_evaluations(config, data)
        if state != "trained":
            fit(config, run, data)
        if is_main:
            _evaluate_and_report(config, run, data)
        if distributed.is_available() and distributed.is_initialized():
            distributed.barrier()
    return run


def _claim(run: RunFolder, config: Config) -> State:
    """Claims a folder; data that are not those of the run in it and cannot be read are named first."""
    try:
        return run.claim(config)
    except RunError:
        if load_saved_config(run.config).data != config.data:
            load_data_of(config)
        raise


def fit(
    config: Config,
    run: RunFolder,
    data: LabeledImages | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    quiet: bool = False,
) -> Trainer:
    """Trains one model, or resumes its training, and saves it in the run folder.

    Args:
        config: checked.
        run: claimed for this configuration.
        data: the data set of the configuration, if it was loaded before.
        callbacks: called after the usual ones.
        quiet: do not print what is trained.

    Returns:
        The trainer at its end.

    Raises:
        VlfewError: parts that do not go together, a diverged training.
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
    """
    assembly = assemble(config, run, data)
    if not quiet:
        for line in assembly.summary:
            log(line)
        for note in [*assembly.data.notes, *assembly.notes]:
            log_note(note)
    trainer = make_trainer(config, assembly, run, callbacks)
    trainer.train()
    if trainer.accelerator.is_main_process:
        _save(assembly, trainer, run)
    trainer.accelerator.wait_for_everyone()
    return trainer


def make_trainer(
    config: Config, assembly: Assembly, run: RunFolder, callbacks: Sequence[Callback] = ()
) -> Trainer:
    """The trainer of an assembly, with its callbacks in order."""
    a, t = assembly, config.training
    identity = {"data fingerprint": a.data.fingerprint}
    if a.initialization is not None:
        identity["weights to start from"] = a.initialization.fingerprint
    images_per_step = config.sampling.batch_size * t.gradient_accumulation_steps
    in_order: list[Callback] = [StopSignal(run), DivergenceCheck(run), ProgressBar()]
    in_order.append(JsonlLogger(run, images_per_step, _facts(a.data)))
    if t.trackers:
        in_order.append(TrackerLogger(config.name, flat_values(config)))
    if a.model_selection is not None:
        in_order.append(Validation(a.model, a.data, a.model_selection))
    if t.patience is not None:
        in_order.append(EarlyStopping(t.patience, start_step=a.objective.last_start * config.optim.steps))
    in_order += [Checkpointing(run, a.parameter_names, identity), *callbacks]
    return Trainer(
        a.training_step,
        a.loader,
        a.optimizer,
        a.schedule,
        a.accelerator,
        config.optim.steps,
        in_order,
        seed=config.seed,
        gradient_accumulation_steps=t.gradient_accumulation_steps,
        gradient_cache=t.gradient_cache,
        max_grad_norm=config.optim.max_grad_norm,
        log_every=t.log_every,
        eval_every=t.eval_every,
        save_every=t.save_every,
    )


def _facts(data: LabeledImages) -> dict[str, object]:
    """What the log says of the data, with every name that the notes shorten."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "images": len(data.images),
        "notes": data.notes,
        "skipped": data.skipped,
        "set_aside": data.set_aside,
        "without_text": data.without_text() if any(data.class_texts) else [],
    }


def _save(assembly: Assembly, trainer: Trainer, run: RunFolder) -> None:
    """Saves the trained model with what must be known of its training."""
    data, start = assembly.data, assembly.initialization
    metadata: dict[str, object] = {
        "trained_on": f"{data.name}/train",
        "data_fingerprint": data.fingerprint,
        "precision": trainer.accelerator.mixed_precision,
        "seconds": round(trainer.state.seconds, 1),
        "notes": assembly.notes,
    }
    if assembly.model_selection is not None:
        metadata["best_step"] = trainer.state.best_step
    else:
        fit_training_means(assembly.model, data)
    if start is not None:
        metadata["started_from"] = {"model": start.model, "fingerprint": start.fingerprint}
    save_model(assembly.model, run.path, metadata)


def _evaluate_and_report(config: Config, run: RunFolder, data: LabeledImages) -> None:
    from vlfew.report import write_report

    context, results = evaluate_run(run, config, data)
    report = write_report(run, context, results, split="test" if "test" in data.splits else "train")
    write_results(run.results, results)  # last: with this file the run is finished
    print_results(results)
    log(f"report: {report}")


def _train_repeatedly(config: Config, config_path: Path, overrides: Sequence[str], runs: Path) -> RunFolder:
    """A run for each value of `config.repeat`, and their results as one."""
    from vlfew.report.comparison import compare_runs, write_comparison

    repeat = config.repeat
    assert repeat is not None
    # All are checked before the first is trained.
    members = [
        read_config(
            config_path,
            [*overrides, f"{repeat.over}={json.dumps(value)}", f"name={config.name}/{name}", "repeat=null"],
        )
        for value, name in zip(repeat.values, member_names(repeat), strict=True)
    ]
    run, is_main = RunFolder(runs / config.name), is_main_process()
    if is_main:
        _claim(run, config)
    with _removed_if_refused(run):
        for number, member in enumerate(members, 1):
            log(f"run {number} of {len(members)}: {member.name}")
            _train_and_evaluate(member, runs)
    if is_main:
        results = merge_member_results(run)
        write_results(run.results, results)
        write_comparison(compare_runs([run.path]), run.report)
        log(f"{run.path}: over {len(members)} runs")
        print_results(results)
        log(f"report: {run.report}")
    return run


@contextmanager
def _removed_if_refused(run: RunFolder) -> Iterator[None]:
    """Removes the folder of a run that fails before anything is in it."""
    try:
        yield
    except VlfewError:
        if is_main_process():
            run.remove_if_empty()
        raise
