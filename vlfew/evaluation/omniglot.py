"""Omniglot's own protocols: one character among the others of its alphabet, by another hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vlfew.data.images import LabelledImages
from vlfew.data.reading import Reading
from vlfew.errors import DataError
from vlfew.evaluation.accuracy import episode_accuracies, hits
from vlfew.evaluation.bank import split_pictures
from vlfew.evaluation.episodes import Episodes, draw_trials
from vlfew.evaluation.few_shot import check_scorer, from_pictures
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.subject import Outcome, Subject
from vlfew.scorers.support import Support

if TYPE_CHECKING:
    from vlfew.data.sources.omniglot import Run


def omniglot_trials(
    subject: Subject,
    *,
    split: str = "test",
    ways: int = 20,
    trials: int = 10_000,
    seed: int = 0,
    scorer: str = "default",
) -> Outcome:
    """Two-drawer within-alphabet one-shot trials, made as the official runs are.

    One trial is one query against `ways` characters. A draw of alphabet, characters and drawers gives
    `ways` trials, which are not independent, so the interval takes draws as clusters.

    Args:
        subject: the model and the data.
        split: which alphabets.
        ways: N characters, at least 2.
        trials: how many, rounded up to whole draws.
        seed: of the draws.
        scorer: by name; `default` is what the model was trained for.

    Raises:
        DataError: the data have no groups (alphabets) or sources (drawers), or none large enough.
        ConfigError: fewer than 2 ways, or no trial.
    """
    drawn = _draw(subject.data, split, ways, trials, seed)
    chosen = subject.model.scorer(scorer)
    score = from_pictures(chosen, ways, shots=1)
    accuracies = episode_accuracies(subject.bank(split).features, drawn, score, maps=chosen.needs_map)
    accuracy, ci95 = mean_ci95(accuracies.tolist())
    details = {
        "ways": ways,
        "shots": 1,
        "queries": 1,
        "trials": len(drawn) * ways,
        "scorer": scorer,
        "interval": f"over draws, as clusters of {ways} trials",
    }
    if chosen.transductive:
        details["transductive"] = True
    return Outcome(accuracy, ci95, len(drawn), details, accuracies)


def check_omniglot_trials(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `omniglot_trials` would, from the labels alone; makes one draw."""
    o = options
    check_scorer(o["scorer"])
    _draw(data, o["split"], o["ways"], min(o["trials"], 1), o["seed"])


def _draw(data: LabelledImages, split: str, ways: int, trials: int, seed: int) -> Episodes:
    """Draws of at least `trials` trials in all."""
    if data.class_group is None or data.source_id is None:
        raise DataError(f"{data.name} does not say alphabets and drawers; omniglot-trials needs both")
    index = split_pictures(data, split)
    draws = math.ceil(trials / max(ways, 1))
    return draw_trials(data.labels[index], data.class_group, data.source_id[index], ways, draws, seed)


@torch.inference_mode()
def omniglot_runs(subject: Subject, *, runs: Path, scorer: str = "default") -> Outcome:
    """The official one-shot runs (Lake et al. 2015): 20 pictures to tell from 20, each run.

    Args:
        subject: the model and the data, which say how pictures are read.
        runs: folder or archive with `run01`, `run02` and so on.
        scorer: by name; `default` is what the model was trained for.

    Raises:
        DataError: a file of a run is missing or damaged.
    """
    # A GPU is not worth its trips for twenty pictures.
    model, fitted = subject.model, subject.model.scorer(scorer).cpu()
    accuracies = {}
    for run in _read_runs(subject.data, runs):
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
        "scorer": scorer,
        "interval": "over runs, as clusters of trials",
    }
    if fitted.transductive:
        details["transductive"] = True
    return Outcome(accuracy, ci95, len(per_run), details, per_run)


def check_omniglot_runs(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `omniglot_runs` would without a model; reads the runs."""
    check_scorer(options["scorer"])
    _read_runs(data, options["runs"])


def _read_runs(data: LabelledImages, runs: Path) -> list[Run]:
    """The runs at the size of the pictures of `data`."""
    from vlfew.data.sources.omniglot import load_runs

    channels, size, _ = data.images.shape
    return load_runs(runs, Reading(image_size=size, channels=channels))
