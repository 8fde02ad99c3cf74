"""Omniglot's own protocols: one character among the others of its alphabet, by another hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vlfew.classifiers.support import Support
from vlfew.core.errors import DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.evaluation.accuracy import episode_accuracies, hits
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import Episodes, sample_omniglot_trials
from vlfew.evaluation.feature_bank import split_images
from vlfew.evaluation.protocols.few_shot import check_scorer, from_images
from vlfew.evaluation.results import mean_ci95

if TYPE_CHECKING:
    from vlfew.data.sources.omniglot import Run


def omniglot_trials(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int = 20,
    trials: int = 10_000,
    seed: int = 0,
    method: str = "default",
) -> ProtocolResult:
    """Two-drawer within-alphabet one-shot trials, made as the official runs are.

    One trial is one query against `ways` characters. A draw of alphabet, characters and drawers gives
    `ways` trials, which are not independent, so the interval takes draws as clusters.

    Args:
        context: the model and the data.
        split: which alphabets.
        ways: N characters, at least 2.
        trials: how many, rounded up to whole draws.
        seed: of the draws.
        method: by name; `default` is what the model was trained for.

    Raises:
        DataError: the data have no groups (alphabets) or sources (drawers), or none large enough.
        ConfigError: fewer than 2 ways, or no trial.
    """
    drawn = _draw(context.data, split, ways, trials, seed)
    chosen = context.model.method(method)
    score = from_images(chosen, ways, shots=1)
    accuracies = episode_accuracies(context.bank(split).features, drawn, score, maps=chosen.needs_map)
    accuracy, ci95 = mean_ci95(accuracies.tolist())
    details = {
        "ways": ways,
        "shots": 1,
        "queries": 1,
        "trials": len(drawn) * ways,
        "method": method,
        "interval": f"over draws, as clusters of {ways} trials",
    }
    if chosen.transductive:
        details["transductive"] = True
    return ProtocolResult(accuracy, ci95, len(drawn), details, accuracies)


def check_omniglot_trials(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `omniglot_trials` would, from the labels alone; makes one draw."""
    o = options
    check_scorer(o["method"])
    _draw(data, o["split"], o["ways"], min(o["trials"], 1), o["seed"])


def _draw(data: LabeledImages, split: str, ways: int, trials: int, seed: int) -> Episodes:
    """Draws of at least `trials` trials in all."""
    if data.class_group is None or data.source_id is None:
        raise DataError(f"{data.name} does not say alphabets and drawers; omniglot-trials needs both")
    index = split_images(data, split)
    draws = math.ceil(trials / max(ways, 1))
    return sample_omniglot_trials(
        data.labels[index], data.class_group, data.source_id[index], ways, draws, seed
    )


@torch.inference_mode()
def omniglot_runs(context: EvaluationContext, *, runs: Path, method: str = "default") -> ProtocolResult:
    """The official one-shot runs (Lake et al. 2015): 20 images to tell from 20, each run.

    Args:
        context: the model and the data, which say how images are read.
        runs: folder or archive with `run01`, `run02` and so on.
        method: by name; `default` is what the model was trained for.

    Raises:
        DataError: a file of a run is missing or damaged.
    """
    # A GPU is not worth its trips for twenty images.
    model, fitted = context.model, context.model.method(method).cpu()
    accuracies = {}
    for run in _read_runs(context.data, runs):
        train, test = (model.encode_images(x) for x in (run.train, run.test))
        fitted.fit(Support(train, torch.arange(len(run.train)), len(run.train)))
        accuracies[run.name] = hits(fitted.score(test), run.answer).double().mean().item()
        ways = len(run.train)
    per_run = np.array(list(accuracies.values()))
    accuracy, ci95 = mean_ci95(per_run.tolist())
    details = {
        "split": "official runs",
        "ways": ways,
        "shots": 1,
        "queries": 1,
        "trials": ways * len(per_run),
        "per_run": accuracies,
        "method": method,
        "interval": "over runs, as clusters of trials",
    }
    if fitted.transductive:
        details["transductive"] = True
    return ProtocolResult(accuracy, ci95, len(per_run), details, per_run)


def check_omniglot_runs(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `omniglot_runs` would without a model; reads the runs."""
    check_scorer(options["method"])
    _read_runs(data, options["runs"])


def _read_runs(data: LabeledImages, runs: Path) -> list[Run]:
    """The runs at the size of the images of `data`."""
    from vlfew.data.sources.omniglot import load_runs

    channels, size, _ = data.images.shape
    return load_runs(runs, ImagePreprocessor(image_size=size, channels=channels))
