"""Omniglot's own protocols: one character among others of its alphabet, by another drawer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import DataError
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.evaluation.accuracy import topk_correct
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import sample_omniglot_trials
from vlfew.evaluation.feature_bank import split_indices
from vlfew.evaluation.protocols.few_shot import check_method, method_accuracies


def omniglot_trials(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int = 20,
    trials: int = 10_000,
    seed: int = 0,
    method: str = "default",
) -> ProtocolResult:
    """Two-drawer within-alphabet one-shot trials, drawn like the official runs.

    One trial is one query against `ways` characters. A draw of alphabet, characters and drawers gives
    `ways` trials, which are not independent, so the interval takes draws as clusters.

    Args:
        context: the model and the data.
        split: the split whose alphabets are evaluated.
        ways: N, characters per trial, at least 2.
        trials: number of trials, rounded up to complete draws.
        seed: of the random draws.
        method: few-shot method by name; `default` is the one the model was trained for.

    Raises:
        DataError: the data have no groups (alphabets) or sources (drawers), or none large enough.
        ConfigError: fewer than 2 ways, or no trial.
    """
    check_method(method)
    data = context.data
    if data.class_group is None or data.source_id is None:
        raise DataError(f"{data.name} has no alphabets and drawers; omniglot-trials needs both")
    index, draws = split_indices(data, split), math.ceil(trials / max(ways, 1))
    drawn = sample_omniglot_trials(
        data.labels[index], data.class_group, data.source_id[index], ways, draws, seed
    )
    few_shot_method = context.model.few_shot_method(method)
    accuracies = method_accuracies(few_shot_method, context.bank(split).features, drawn)
    details = {
        "ways": ways,
        "shots": 1,
        "queries": 1,
        "trials": len(drawn) * ways,
        "method": method,
        "interval": f"over draws, as clusters of {ways} trials",
    }
    if few_shot_method.transductive:
        details["transductive"] = True
    return ProtocolResult.over_episodes(accuracies, details)


@torch.inference_mode()
def omniglot_runs(context: EvaluationContext, *, runs: Path, method: str = "default") -> ProtocolResult:
    """The official one-shot runs (Lake et al. 2015): 20 test images, each one of 20 characters, per run.

    Args:
        context: the model and the data, which set the image size.
        runs: folder or archive with `run01`, `run02` and so on.
        method: few-shot method by name; `default` is the one the model was trained for.

    Raises:
        DataError: a file of a run is missing or damaged.
    """
    from vlfew.data.sources.omniglot import load_runs

    check_method(method)
    channels, size, _ = context.data.images.shape
    loaded = load_runs(runs, ImagePreprocessor(image_size=size, channels=channels))
    # A GPU does not pay for twenty images at a time.
    model, few_shot_method = context.model, context.model.few_shot_method(method).cpu()
    accuracies = {}
    for run in loaded:
        train, test = (model.image_features(pixels) for pixels in (run.train, run.test))
        few_shot_method.fit(SupportSet(train, torch.arange(len(run.train)), len(run.train)))
        correct = topk_correct(few_shot_method.logits(test), run.answer)
        accuracies[run.name] = correct.double().mean().item()
        ways = len(run.train)
    per_run = np.array(list(accuracies.values()))
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
    if few_shot_method.transductive:
        details["transductive"] = True
    return ProtocolResult.over_episodes(per_run, details)
