"""Evaluate a model by a protocol: the public `vlfew.evaluate`, and the evaluations of a configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlfew.core.checks import to_path
from vlfew.core.console import log, log_note, wide_console
from vlfew.core.errors import DataError, error_context
from vlfew.core.files import keeping
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import NEEDS_TEXT, PROTOCOLS
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.class_prompts import NoTextError
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.repeats import merge_results
from vlfew.evaluation.results import Result, read_results
from vlfew.evaluation.run_protocol import check_protocol, run_protocol, save_per_episode
from vlfew.models.backbone_cache import evaluation_cache
from vlfew.models.dual_stream import DualStream
from vlfew.models.loading import load
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.evaluation_data import DataOptions, check_arguments, data_settings, load_evaluation_data
from vlfew.workflows.objective import choose_losses

if TYPE_CHECKING:
    from vlfew.core.config import Config


def evaluate(
    model: DualStream | str | Path,
    data: LabeledImages | str | None = None,
    protocol: str = "few-shot",
    *,
    root: str | Path | None = None,
    data_options: DataOptions = (),
    per_episode: str | Path | None = None,
    **options: Any,
) -> Result:
    """Evaluates a model by a protocol; nothing is trained and nothing is tuned.

        result = vlfew.evaluate("runs/quickstart", "glyphs", "few-shot", ways=20)

    Args:
        model: a model, or its name: a run folder, a hub id, `open_clip:ARCH/TAG`, `transformers:NAME`,
            `timm:NAME`, or a packaged backbone such as `efficientnet_lite0`. The members of a repeated run are
            evaluated one by one and their results merged.
        data: a data set, the name of a source, or None for the data that the model was trained on.
        protocol: name of the protocol, see `vlfew.evaluation.PROTOCOLS`.
        root: folder of the data, for a source by name.
        data_options: of the source, and `resize` and `center_crop`; a mapping or `key=value` strings.
        per_episode: a `.npy` file to write the accuracy of each episode to.
        options: of the protocol; the others have their defaults.

    Returns:
        The accuracy with its 95% interval, and all it takes to compare it with others.

    Raises:
        VlfewError: unknown names or options, data that cannot be read, or what the protocol raises.
    """
    check_arguments(model, data, root, data_options)
    episode_file = None if per_episode is None else to_path(per_episode, "per_episode")
    PROTOCOLS.checked(protocol, options)  # before any file is read
    run = None if isinstance(model, DualStream) else RunFolder(Path(model))
    members = [] if run is None else run.members
    if isinstance(data, LabeledImages) or (isinstance(model, DualStream) and model.path is None):
        command = _python_call(protocol, options)
    else:
        name = model.path if isinstance(model, DualStream) else model
        command = evaluate_command(str(name), protocol, data, options, root, data_settings(data_options))
    results, per_member = [], []
    models: Sequence[DualStream | str | Path] = [member.path for member in members] or [model]
    for one in models:
        loaded = one
        if not isinstance(loaded, DualStream):
            loaded = load(loaded).to(scoring_device())
            loaded.backbone_cache = evaluation_cache(loaded)
        context = EvaluationContext(loaded, load_evaluation_data(loaded, data, root, data_options))
        result, outcome = _run(context, protocol, options, command)
        results.append(result)
        per_member.append(outcome.per_episode)
    merged = merge_results(results, *run.repeated) if run is not None and members else results[0]
    if episode_file is not None:
        with keeping(episode_file, lambda: f"the accuracy is {merged.accuracy}"):
            save_per_episode(episode_file, per_member)
    return merged


def _run(
    context: EvaluationContext, protocol: str, options: Mapping[str, Any], command: str
) -> tuple[Result, ProtocolResult]:
    """Runs a protocol and records what is known of the model's training."""
    model = context.model
    return run_protocol(
        context,
        protocol,
        options,
        command=command,
        trained_on=trained_on(model),
        outside_data=model.spec.outside_data,
        notes=training_notes(model.metadata, context.data),
    )


def trained_on(model: DualStream) -> str:
    """`data/split` that the model was trained on; the name of its image encoder where it was not trained here."""
    return str(model.metadata.get("trained_on", model.spec.backbone))


def training_notes(metadata: Mapping[str, Any], data: LabeledImages) -> list[str]:
    """The notes of the training, and a warning where the data have changed since.

    Args:
        metadata: of the model.
        data: that the model is evaluated on.
    """
    notes = list(metadata.get("notes", []))
    name, fingerprint = str(metadata.get("trained_on", "")), metadata.get("data_fingerprint")
    if name.rpartition("/")[0] == data.name and fingerprint not in (None, data.fingerprint):
        seen = "classes" if data.split_by == "class" else "images"
        notes.append(
            f"not the data it was trained on ({data.name} {fingerprint}, now {data.fingerprint}): "
            f"{seen} of the test split may have been trained on"
        )
    return notes


def configured_evaluations(config: Config, has_text: bool) -> list[tuple[str, dict[str, Any]]]:
    """Protocols and options that a configuration lists; without text, only those that need none."""
    return [(e.protocol, e.options) for e in config.evaluate if has_text or e.protocol not in NEEDS_TEXT]


def _without_evaluations(config: Config, data: LabeledImages) -> str:
    """What to do where there is no split to evaluate on."""
    overrides, classes = ["evaluate=[]"], len(data.classes("train")) if "train" in data.splits else 0
    if (wanted := config.sampling.classes_per_batch) is not None and 2 <= classes < wanted:
        overrides.append(f"sampling.classes_per_batch={classes}")
    ways_out = [f"train without evaluations ({' '.join(overrides)})"]
    if "val" in data.splits:
        ways_out.append("evaluate on the split 'val'")
    return ", ".join([*ways_out, "or use a model that was trained on other classes (vlfew classify)"])


def check_configured_evaluations(config: Config, data: LabeledImages) -> None:
    """Raises before training what the configured evaluations would raise after it.

    Raises:
        DataError: a split that the data do not have.
        ConfigError: any other problem, with the name of the protocol.
    """
    for protocol, options in configured_evaluations(config, choose_losses(config, data).needs_text):
        split = PROTOCOLS.checked(protocol, options).get("split")
        if split is not None and split not in data.splits:
            raise DataError(
                f"evaluate: {protocol} needs the split {split!r}, which {data.name} as configured does not have"
                f"{f' ({data.note})' if data.note else ''}; {_without_evaluations(config, data)}"
            )
        # Classes without text are told after the training, which goes on with the others.
        with error_context(f"evaluate: {protocol}"), suppress(NoTextError):
            check_protocol(protocol, options, data)


def evaluate_run(
    run: RunFolder, config: Config, data: LabeledImages
) -> tuple[EvaluationContext, list[Result]]:
    """Evaluates the trained model of a run by the protocols that its configuration lists.

    Accuracies of single episodes are written to `episodes/` in the run folder.

    Args:
        run: folder with the trained model.
        config: of the run.
        data: of the run.

    Returns:
        The loaded model with its encoded splits, and the results.
    """
    model = load(run.path).to(scoring_device())
    model.backbone_cache = evaluation_cache(model, maps=config.training.cache_views is not None)
    context, results = EvaluationContext(model, data), list[Result]()
    evaluations = configured_evaluations(config, model.has_text)
    for number, (protocol, options) in enumerate(evaluations):
        command = evaluate_command(str(run.path), protocol, config.data.name, options)
        try:
            result, outcome = _run(context, protocol, options, command)
        except NoTextError as error:
            log_note(f"evaluation {protocol} skipped: {error}")
            continue
        if outcome.per_episode is not None:
            result.per_episode = f"episodes/{number:02d}-{protocol}.npy"
            save_per_episode(run.path / result.per_episode, [outcome.per_episode])
        results.append(result)
    if skipped := len(config.evaluate) - len(evaluations):
        log_note(f"{skipped} evaluation(s) with text skipped: this run has no text encoder")
    return context, results


def merge_member_results(run: RunFolder) -> list[Result]:
    """The results of a repeated run: those of its members, merged one evaluation at a time.

    Accuracies of single episodes are written one member after the other.
    """
    members, (key, values) = run.members, run.repeated
    merged = []
    for number, same in enumerate(zip(*(read_results(m.results) for m in members), strict=True)):
        result = merge_results(same, key, values)
        result.command = result.command.replace(str(members[0].path), str(run.path), 1)
        files = [m.path / r.per_episode for m, r in zip(members, same, strict=True) if r.per_episode]
        if len(files) == len(members):
            result.per_episode = f"episodes/{number:02d}-{result.protocol}.npy"
            save_per_episode(run.path / result.per_episode, [np.load(file) for file in files])
        merged.append(result)
    return merged


def print_results(results: Sequence[Result]) -> None:
    """Prints a table of results, and what its readers must know; nothing where there are none."""
    if not results:
        return
    from vlfew.report.formatting import outside_data, unique_notes
    from vlfew.report.tables import results_table

    wide_console().print(results_table(results))
    for outside in dict.fromkeys(outside_data(result) for result in results if result.outside_data):
        log(f"outside    {outside}")
    for note in unique_notes(result.note for result in results):
        log_note(note)


def evaluate_command(
    model: str,
    protocol: str,
    data: str | None,
    options: Mapping[str, Any],
    root: str | Path | None = None,
    settings: Sequence[str] = (),
) -> str:
    """The command line that gives a result again.

    Args:
        model: its name.
        protocol: name of the protocol.
        data: name of the data source; None for the model's own.
        options: of the protocol, without defaults.
        root: folder of the data.
        settings: data options as `data.key=value`.
    """
    flags = {"data": data, "root": root, **options}
    return shlex.join(["vlfew", "evaluate", protocol, model, *command_flags(flags), *settings])


def command_flags(options: Mapping[str, Any]) -> list[str]:
    """Options as flags of a command; None is omitted, sequences repeat theirs, booleans are `--x` or `--no-x`."""
    flags: list[str] = []
    for key, value in options.items():
        name = key if "." in key else key.replace("_", "-")
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bool):
                flags.append(f"--{name}" if one else f"--no-{name}")
            elif one is not None:
                flags += [f"--{name}", str(one)]
    return flags


def _python_call(protocol: str, options: Mapping[str, Any]) -> str:
    """The call that gives a result again, where model or data are objects without a name."""
    arguments = ["model", "data", repr(protocol), *(f"{key}={value!r}" for key, value in options.items())]
    return f"vlfew.evaluate({', '.join(arguments)})"
