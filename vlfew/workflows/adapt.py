"""Compare few-shot methods on a frozen model: the public `vlfew.adapt`, and where its results are saved."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlfew.core.config_file import load_saved_config
from vlfew.core.console import log, log_note, wide_console
from vlfew.core.errors import ConfigError, ModelError
from vlfew.core.files import file_stem
from vlfew.core.registry import Registry
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.adaptation.compare import compare_methods
from vlfew.evaluation.adaptation.methods import ALL, find_methods
from vlfew.evaluation.adaptation.result import AdaptationResult
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import encode_split
from vlfew.evaluation.feature_cache import cached_split_features
from vlfew.evaluation.outside_data import overlap
from vlfew.models.backbone_cache import evaluation_cache
from vlfew.models.dual_stream import DualStream
from vlfew.models.loading import load
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.evaluate import command_flags, trained_on, training_notes
from vlfew.workflows.evaluation_data import DataOptions, check_arguments, data_settings, load_evaluation_data

_COMPARISON = Registry("comparison", {"adapt": "vlfew.evaluation.adaptation.compare:compare_methods"})


def adapt(
    model: DualStream | str | Path,
    data: LabeledImages | str | None = None,
    *,
    methods: str | Iterable[str] = ALL,
    root: str | Path | None = None,
    data_options: DataOptions = (),
    cache: bool = True,
    **options: Any,
) -> AdaptationResult:
    """Compares few-shot methods on the frozen features of a model.

        table = vlfew.adapt("runs/quickstart", "glyphs", shots=[1, 4]).to_frame()

    Args:
        model: a model, or its name: a run folder, a hub id, `open_clip:ARCH/TAG`, `transformers:NAME`,
            `timm:NAME`, or a packaged backbone such as `efficientnet_lite0`.
        data: a data set, the name of a source, or None for the data that the model was trained on.
        methods: a name or several; `all` for all that need no training of the model.
        root: folder of the data, for a source by name.
        data_options: of the source, and `resize` and `center_crop`; a mapping or `key=value` strings.
        cache: whether features are read from and written to the user's cache folder.
        options: as `vlfew.evaluation.adaptation.compare.compare_methods` takes them: `shots`, `repeats`,
            `split`, `ways`, `tune_on`, `base_to_new`, `on_small_class`, `templates`, `descriptions`, `fixed`.

    Raises:
        ModelError: a model whose two image encoders share no weights.
        VlfewError: unknown names or options, data that cannot be read, or what the comparison raises.
    """
    check_arguments(model, data, root, data_options)
    given = {
        key: _listed(value) if key in ("methods", "shots") else value
        for key, value in {"methods": methods, **options}.items()
    }
    checked = _COMPARISON.checked("adapt", given)
    # Mistyped names are raised before anything is read.
    find_methods(checked["methods"], "", checked["fixed"] or {})
    name = str((model.path or model.spec.backbone) if isinstance(model, DualStream) else model)
    loaded = model
    if not isinstance(loaded, DualStream):
        loaded = load(loaded).to(scoring_device())
        loaded.backbone_cache = evaluation_cache(loaded) if cache else None
    if not loaded.spec.share_weights:
        raise ModelError(
            f"{name} has two image encoders that share no weights, and these methods compare single embeddings; "
            "use vlfew evaluate, which compares one side with the other"
        )
    images = load_evaluation_data(loaded, data, root, data_options)
    context = EvaluationContext(loaded, images, encode=cached_split_features if cache else encode_split)
    result = compare_methods(context, **checked)
    return replace(
        result,
        model=name,
        command=adapt_command(name, data, given, root, data_options),
        trained_on=trained_on(loaded),
        outside_data=loaded.spec.outside_data,
        outside_data_overlap=overlap(loaded.spec.outside_data, images, result.split),
        notes=list(dict.fromkeys([*result.notes, *training_notes(loaded.metadata, images)])),
    )


def _listed(value: Any) -> list[Any]:
    """Several values, of a list, array or generator, or a single one, as a list."""
    value = value.tolist() if hasattr(value, "tolist") else value
    single = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    return [value] if single else [*value]


def adapt_command(
    model: str,
    data: LabeledImages | str | None,
    options: Mapping[str, Any],
    root: str | Path | None = None,
    data_options: DataOptions = (),
) -> str:
    """The command line that makes a comparison again, with all options that were given.

    Args:
        model: its name.
        data: as `adapt` takes it.
        options: as `adapt` takes them.
        root: folder of the data.
        data_options: as `adapt` takes them.
    """
    flags: dict[str, Any] = {"data": data.name if isinstance(data, LabeledImages) else data, "root": root}
    for key, value in options.items():
        if key == "fixed":
            flags |= {f"{method}.{k}": v for method, own in (value or {}).items() for k, v in own.items()}
        else:
            flags[key] = ",".join(map(str, value)) if key in ("methods", "shots") else value
    return shlex.join(["vlfew", "adapt", model, *command_flags(flags), *data_settings(data_options)])


def adaptation_folder(model: str, out: Path | None, data: str | None, split: str, base_to_new: bool) -> Path:
    """The folder for the results of a comparison: `out`, or `RUN/adapt/DATA`.

    Raises:
        ConfigError: the model is not a run folder and no folder is named, or it is a repeated run.
    """
    run = RunFolder(Path(model))
    if members := run.members:
        raise ConfigError(
            f"{model} holds {len(members)} runs, and methods are compared on one model: "
            f"name one of them, such as {members[0].path}"
        )
    if out is not None:
        return out
    if not run.path.is_dir():
        raise ConfigError(f"{model} is not a run folder to save results in; name a folder with --out")
    own = load_saved_config(run.config).data.name if run.config.is_file() else ""
    parts = [file_stem(data or own), split * (split != "test"), "base-to-new" * base_to_new]
    return run.path / "adapt" / "-".join(filter(None, parts))


def save_adaptation(result: AdaptationResult, folder: Path) -> Path:
    """Writes `adapt.json` and the page `adapt.html`; earlier results of another command are renamed, never lost.

    Returns:
        The page.
    """
    from vlfew.report.adaptation_report import write_adaptation_report

    if renamed := _rename_earlier(folder, result.command):
        log_note(f"the earlier comparison is now {renamed}")
    result.save(folder / "adapt.json")
    write_adaptation_report(folder / "adapt.html", result)
    return folder / "adapt.html"


def _rename_earlier(folder: Path, command: str) -> Path | None:
    """Renames results of another command to `adapt-1.json` and so on; gives the new path, if there were any."""
    earlier = folder / "adapt.json"
    try:
        if not earlier.is_file() or json.loads(earlier.read_text(encoding="utf-8")).get("command") == command:
            return None
    except (ValueError, AttributeError):
        pass  # not a file of ours: never overwritten
    number = next(n for n in itertools.count(1) if not (folder / f"adapt-{n}.json").exists())
    for file in (folder / "adapt.html", earlier):
        if file.is_file():
            file.rename(folder / f"adapt-{number}{file.suffix}")
    return folder / f"adapt-{number}.json"


def print_adaptation(result: AdaptationResult) -> None:
    """Prints a comparison as a table, and what to know about it."""
    from vlfew.report.adaptation_report import adaptation_table
    from vlfew.report.formatting import outside_data

    wide_console().print(adaptation_table(result))
    what = "new classes have as many; " if result.base_to_new else ""
    log(f"chance     {100 * result.chance:.3g}%; {what}{result.tuning}")
    log(f"outside    {outside_data(result)}")
    if result.repeats == 1:
        log_note("no intervals: one repeat")
    for note in result.notes:
        log_note(note)
    if result.skipped_methods:
        log_note(f"skipped, since they need text: {', '.join(result.skipped_methods)}")
