"""`report.html`: one page that shows how a run was trained and what its model does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vlfew.core.config import Config
from vlfew.core.config_file import load_config
from vlfew.core.files import write_atomic
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.results import Result
from vlfew.models.serialization import read_metadata
from vlfew.report.confusions import confusion_tables
from vlfew.report.embedding_map import embedding_map
from vlfew.report.episodes import episode_sheets
from vlfew.report.formatting import (
    accuracy,
    chance,
    chance_percent,
    counted,
    duration,
    extras,
    input_size,
    interval,
    setting,
    spaced,
)
from vlfew.report.page import render
from vlfew.report.pairs import pair_sheets, worst_mistakes
from vlfew.report.training_curves import loss_terms, loss_weights, training_curves
from vlfew.report.verification_curves import verification_curves
from vlfew.report.zero_shot_examples import embed_classes, zero_shot_examples
from vlfew.training.run_folder import RunFolder

SHOWN_NAMES = 5
"""Most names of skipped images that are listed."""
UNSEEN = {
    "class": "classes that were not trained on",
    "image": "images that were not trained on, of the classes that were",
}


def write_report(
    run: RunFolder, context: EvaluationContext, results: list[Result], split: str = "test", seed: int = 0
) -> Path:
    """Writes `report.html` into the run folder.

    Args:
        run: trained; its configuration, log and model metadata are read.
        context: the model and the data.
        results: of the evaluations.
        split: whose images are shown.
        seed: of everything that is sampled for the page.

    Returns:
        The path of the page.

    Raises:
        VlfewError: the run folder is incomplete, or the data have no such split.
    """
    config, metadata, log = load_config(run.config), read_metadata(run.path), run.read_log()
    bank, name = context.bank(split), run.path.resolve().name
    classes = embed_classes(context, results, split)
    sections = {
        "Results": _results(results, context.data),
        "Verification": verification_curves(results),
        "Worst mistakes": worst_mistakes(context.data, results),
        "Training": training_curves(log, loss_weights(config)),
        "Episodes": episode_sheets(context, bank, seed),
        "Pairs": pair_sheets(context, results, split, seed),
        "Zero-shot examples": zero_shot_examples(bank, classes, seed),
        "Embedding map": embedding_map(bank, seed),
        "Confusions": confusion_tables(context, bank, classes, seed),
    }
    header = {
        "name": name,
        "summary": _summary(config, metadata, context),
        "results": [_headline(r) for r in results],
        "notes": _notes(metadata, context.data, results),
        "facts": _facts(config, metadata, log, context),
    }
    write_atomic(run.report, render("run", f"{name}: a vlfew run", header, sections))
    return run.report


def _summary(config: Config, metadata: dict[str, Any], context: EvaluationContext) -> str:
    data = context.data
    text = f" and a text encoder ({config.text.encoder})" if context.model.has_text else ""
    trained = data.name
    if "train" in data.splits:
        images, classes = len(data.indices("train")), len(data.classes("train"))
        trained += f": {counted(images, 'image')} of {counted(classes, 'class')}"
    took = f" for {duration(metadata['seconds'])}" if "seconds" in metadata else ""
    return f"An image encoder ({config.image.stream}){text}, trained{took} on {trained}."


def _headline(result: Result) -> dict[str, Any]:
    return {
        "protocol": result.protocol,
        "setting": setting(result),
        "accuracy": result.accuracy,
        "interval": interval(result, 1),
        "chance": chance(result),
        "chance_percent": chance_percent(result),
    }


def _facts(
    config: Config, metadata: dict[str, Any], log: Sequence[dict[str, Any]], context: EvaluationContext
) -> dict[str, str]:
    data, model = context.data, context.model
    frozen = ", frozen" if config.text.fixed else ""
    facts = {
        "Trained on": str(metadata.get("trained_on", data.name)),
        "Data fingerprint": data.fingerprint,
        "Image encoder": config.image.stream,
        "Text encoder": f"{config.text.encoder}{frozen}" if model.has_text else "none",
    }
    if isinstance(model, nn.Module):
        total = sum(p.numel() for p in model.parameters())
        # A model trained with LoRA no longer shows which parameters these were.
        own = sum(p.numel() for p in model.parameters() if p.requires_grad)
        trained = metadata.get("trained_parameters", own)
        facts["Parameters"] = f"{trained:,} trained, {total - trained:,} frozen"
    if terms := loss_terms(log):
        weights = loss_weights(config)
        facts["Objective"] = " + ".join(f"{weights.get(t, 1):g} × {spaced(t)}" for t in terms)
    batch = config.sampling.batch_size * config.training.gradient_accumulation_steps
    facts["Training"] = f"{config.optim.steps:,} steps of {batch:,} images"
    if "best_step" in metadata:
        facts["Saved checkpoint"] = f"step {metadata['best_step']:,}, best on validation"
    facts["Input"] = input_size(*data.images.shape)
    facts["Precision"] = str(metadata.get("precision", config.training.mixed_precision))
    if "seconds" in metadata:
        facts["Training time"] = duration(metadata["seconds"])
    return facts | {"Seed": str(config.seed)}


def _notes(metadata: dict[str, Any], data: LabeledImages, results: Sequence[Result]) -> list[str]:
    """Notes on the data, the training and the results, each once."""
    notes = [*data.note.split("; "), *metadata.get("notes", [])]
    if data.skipped:
        more = len(data.skipped) - SHOWN_NAMES
        shown = ", ".join(data.skipped[:SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")
        notes.append(f"{counted(len(data.skipped), 'unreadable image')} skipped: {shown}")
    notes += [part for result in results for part in result.note.split("; ")]
    return list(dict.fromkeys(filter(None, notes)))


def _results(results: Sequence[Result], data: LabeledImages) -> dict[str, Any] | str:
    """A row for each result, with everything needed to interpret it."""
    if not results:
        return "No evaluation was run."
    rows = [
        {
            "protocol": r.protocol,
            "data": f"{r.data} / {r.split}",
            "setting": setting(r),
            "accuracy": accuracy(r),
            "extras": extras(r),
            "chance": chance_percent(r),
            "interval_over": r.interval_unit,
            "seed": r.seed,
            "input": "×".join(map(str, r.input_size)),
            "outside_data": "yes" if r.outside_data else "no",
            "command": r.command,
            "details": _details(r),
        }
        for r in results
    ]
    intro = (
        f"Accuracy with its 95% confidence interval, on {UNSEEN[data.split_by]}. Outside data: whether the model "
        "uses weights that were pretrained on other images."
    )
    return {"intro": intro, "rows": rows}


def _details(result: Result) -> str:
    parts = [f"{key} {result.get(key)}" for key in ("interval", "method") if result.get(key)]
    if result.get("transductive"):
        parts.append("transductive: all queries of an episode are classified together")
    if result.get("templates"):
        parts.append("prompts " + ", ".join(f"“{t}”" for t in result.get("templates")))
    return "; ".join(parts)
