"""`report.html`: one page that shows how a run was trained and what its model does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vlfew.core.config_file import load_saved_config
from vlfew.core.files import write_atomic
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.results import Result
from vlfew.models.serialization import read_metadata
from vlfew.report.confusions import confusion_tables
from vlfew.report.embedding_map import embedding_map
from vlfew.report.episodes import episode_sheets
from vlfew.report.formatting import unique_notes
from vlfew.report.page import render
from vlfew.report.pairs import pair_sheets, worst_mistakes
from vlfew.report.training_curves import loss_terms, loss_weights, training_curves
from vlfew.report.verification_curves import verification_curves
from vlfew.report.zero_shot_examples import embed_classes, zero_shot_examples
from vlfew.training.run_folder import RunFolder


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
    config, metadata, log = load_saved_config(run.config), read_metadata(run.path), run.read_log()
    weights, model, data = loss_weights(config), context.model, context.data
    bank, name = context.bank(split), run.path.resolve().name
    classes = embed_classes(context, results, split)
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    header = {
        "name": name,
        "config": config,
        "metadata": metadata,
        "data": data,
        "training": "train" in data.splits and (len(data.indices("train")), len(data.classes("train"))),
        "has_text": model.has_text,
        "total": sum(p.numel() for p in parameters),
        # A model trained with LoRA no longer shows which parameters these were.
        "trained": metadata.get("trained_parameters", sum(p.numel() for p in parameters if p.requires_grad)),
        "terms": [(weights.get(term, 1), term) for term in loss_terms(log)],
        "results": results,
        "notes": _notes(metadata, data, results),
    }
    sections = {
        "Results": {"results": results, "split_by": data.split_by} if results else "No evaluation was run.",
        "Verification": verification_curves(results),
        "Worst mistakes": worst_mistakes(data, results),
        "Training": training_curves(log, weights),
        "Episodes": episode_sheets(context, bank, seed),
        "Pairs": pair_sheets(context, results, split, seed),
        "Zero-shot examples": zero_shot_examples(bank, classes, seed),
        "Embedding map": embedding_map(bank, seed),
        "Confusions": confusion_tables(context, bank, classes, seed),
    }
    write_atomic(run.report, render("run", f"{name}: a vlfew run", header, sections))
    return run.report


def _notes(metadata: dict[str, Any], data: LabeledImages, results: Sequence[Result]) -> list[str]:
    """Notes on the data, the training and the results, each once."""
    notes = [*data.notes, *metadata.get("notes", [])]
    return unique_notes([*notes, *(r.note for r in results)])
