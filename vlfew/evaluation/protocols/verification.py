"""Verification: do two images show the same class? By a threshold that was chosen on other classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import ConfigError, DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.pairs import PAIRS, kept_pairs, sample_pairs, split_pairs
from vlfew.evaluation.protocols.few_shot import check_scorer
from vlfew.evaluation.results import cluster_error, mean_ci95, student
from vlfew.evaluation.roc import (
    area_under,
    band,
    best_threshold,
    equal_error_rate,
    false_accept_threshold,
    tar_curve,
)

TARGETS = (1e-2, 1e-3)
"""False-accept rates at which the true-accept rate is told."""
CHUNK = 1024
"""Pairs that are scored at a time."""
SHOWN = 12
"""Worst mistakes that are kept of each kind."""


def verification(
    context: EvaluationContext,
    *,
    split: str = "test",
    calibrate: str = "val",
    pairs: int | None = None,
    calibration_pairs: int | None = None,
    folds: int | None = None,
    seed: int = 0,
    method: str = "default",
    pairs_file: Path | None = None,
) -> ProtocolResult:
    """Share of pairs that are told right, each by a threshold chosen on pairs of other classes.

    The pairs are the data set's own, else drawn. Where they lie in several folds of classes, the
    threshold for a fold is the best one on the pairs that share no fold with it (LFW's View 2:
    nine folds choose, the tenth is scored). Where they are all of one fold, as for a model that was
    trained for it, the threshold is chosen on the pairs of the split `calibrate`. It is always one of
    the scores met there. The interval is over folds, or over pairs where there is one fold.

    Also told: the area under the ROC and the equal error rate over all pairs, and the TAR at FAR
    1e-2 and 1e-3, whose thresholds come from where the accuracy's do; left out where there are too
    few different pairs to set them.

    Args:
        context: the model and the data.
        split: which pairs.
        calibrate: split that gives the threshold where the pairs are of one fold.
        pairs: how many are drawn where the data have none of their own, 6,000; as many same as different ones in
            each fold, so at times a few less.
        calibration_pairs: draw so many from `calibrate`, though it has pairs of its own.
        folds: of the drawn pairs, 10; at most half the classes.
        seed: of the draws.
        method: by name; `default` is what the model was trained for.
        pairs_file: drawn pairs that are scored are kept here, or taken from here when it is there.

    Raises:
        DataError: no such split; too few classes or images to draw pairs from; a fold whose pairs
            are all the same or all different.
        ConfigError: fewer than 2 pairs or 1 fold; a threshold chosen by the pairs that are scored; a
            transductive scorer; a pairs_file that holds others, or where none are drawn.
    """
    judged = judge_pairs(
        context,
        split=split,
        calibrate=calibrate,
        pairs=pairs,
        calibration_pairs=calibration_pairs,
        folds=folds,
        seed=seed,
        method=method,
        pairs_file=pairs_file,
    )
    tested, scores, thresholds = judged.pairs, judged.scores, judged.thresholds
    same = tested.same.numpy()
    right = judged.right.astype(np.float64)
    fold = _scoring_fold(tested).numpy()
    numbers = np.unique(fold)
    accuracy, ci95 = mean_ci95(right.tolist())
    details: dict[str, Any] = {"interval": "over pairs"}
    if len(numbers) > 1:
        counts = [(float(right[fold == n].sum()), float((fold == n).sum())) for n in numbers]
        # Folds of one size (LFW's): the mean over folds, and its standard error with ddof 1.
        error = cluster_error(*zip(*counts, strict=True))
        ci95 = student(len(numbers) - 1) * error
        details = {
            "fold_accuracies": [hits / total for hits, total in counts],
            "standard_error": error,
            "interval": "over folds",
        }
    details |= {
        "chance": float(max(same.mean(), 1 - same.mean())),
        "pairs": len(tested),
        "method": method,
        "threshold": float(np.mean(thresholds)),
        "threshold_chosen_on": judged.chosen_on,
        "auc": area_under(scores, same),
        "eer": equal_error_rate(scores, same),
    }
    for target in TARGETS:
        name = f"far_{target:g}"
        if target in judged.refused:
            details[f"{name}_refused"] = judged.refused[target]
            continue
        accepted = scores >= judged.accept[target]
        details[f"tar_at_{name}"] = float(accepted[same].mean())
        details[f"measured_{name}"] = float(accepted[~same].mean())
    both = [own for own in (fold == n for n in numbers) if same[own].any() and not same[own].all()]
    both = both or [np.ones(len(same), dtype=bool)]
    details["roc"] = band(np.stack([tar_curve(scores[own], same[own]) for own in both]))
    details["mistakes"] = _mistakes(context.data, tested, scores, thresholds, right)
    return ProtocolResult(accuracy, ci95, len(tested), details, right)


@dataclass(frozen=True)
class Judged:
    """Pairs, how alike they are, and the threshold that each of them meets.

    Attributes:
        pairs: M of them.
        scores: `[M]` float64, higher where the two are more alike.
        thresholds: `[M]`, each chosen on pairs that share no class with it.
        accept: false-accept rate to the thresholds `[M]` that were set for it in the same way.
        refused: the rates for which there were too few pairs, and what was said.
        chosen_on: which pairs gave the thresholds, in words.
    """

    pairs: Pairs
    scores: np.ndarray
    thresholds: np.ndarray
    accept: dict[float, np.ndarray]
    refused: dict[float, str]
    chosen_on: str

    @property
    def right(self) -> np.ndarray:
        """`[M]` whether each is told right."""
        found: np.ndarray = (self.scores >= self.thresholds) == self.pairs.same.numpy()
        return found


def judge_pairs(
    context: EvaluationContext,
    *,
    split: str,
    calibrate: str,
    pairs: int | None,
    calibration_pairs: int | None,
    folds: int | None,
    seed: int,
    method: str,
    pairs_file: Path | None,
) -> Judged:
    """The pairs of `verification`, which says what all of this is, each with its threshold."""
    check_scorer(method, "verification")
    tested = kept_pairs(context.data, split, pairs, folds, seed, pairs_file)
    _check_apart(tested, split, calibrate)
    similarity = context.model.method(method)
    scores, same, own = _scores(context, similarity, split, tested), tested.same.numpy(), tested.fold.numpy()
    thresholds = np.empty(len(tested))
    accept = {target: np.full(len(tested), np.nan) for target in TARGETS}
    refused: dict[float, str] = {}

    def choose(cell: np.ndarray | slice, from_scores: np.ndarray, from_same: np.ndarray) -> None:
        thresholds[cell] = best_threshold(from_scores, from_same)
        for target in TARGETS:
            try:
                accept[target][cell] = false_accept_threshold(from_scores[~from_same], target)
            except DataError as error:
                refused[target] = str(error)

    if len(np.unique(own)) > 1:
        for first, second in np.unique(np.sort(own, axis=1), axis=0):
            apart = ~np.isin(own, (first, second)).any(axis=1)
            choose((np.sort(own, axis=1) == (first, second)).all(axis=1), scores[apart], same[apart])
        chosen_on = "the other folds"
    else:
        others = _calibrating(context.data, calibrate, pairs, calibration_pairs, seed)
        choose(slice(None), _scores(context, similarity, calibrate, others), others.same.numpy())
        chosen_on = f"{len(others):,} pairs of {calibrate}"
    return Judged(tested, scores, thresholds, accept, refused, chosen_on)


def check_verification(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `verification` would, from the labels alone."""
    o = options
    check_scorer(o["method"], "verification")
    file = o["pairs_file"]
    # A file that is not there yet is written when the pairs are scored.
    kept = file if file is not None and (file.exists() or o["split"] in data.pairs) else None
    tested = kept_pairs(data, o["split"], o["pairs"], o["folds"], o["seed"], kept)
    _check_apart(tested, o["split"], o["calibrate"])
    if len(tested.fold.unique()) == 1:
        _calibrating(data, o["calibrate"], o["pairs"], o["calibration_pairs"], o["seed"])


def _calibrating(data: LabeledImages, split: str, pairs: int | None, drawn: int | None, seed: int) -> Pairs:
    """The pairs that choose a threshold for others: the split's own, or so many drawn ones."""
    if drawn is not None:
        return sample_pairs(data, split, drawn, 1, seed)
    return split_pairs(data, split, PAIRS if pairs is None else pairs, 1, seed)


def _scoring_fold(pairs: Pairs) -> Tensor:
    """The fold `[M]` in which each pair counts: of a pair across folds, the one with the lower number."""
    return pairs.fold.min(dim=1).values


def _check_apart(tested: Pairs, split: str, calibrate: str) -> None:
    """A threshold is not judged by the pairs that chose it, but for comparing models on `val`."""
    if len(tested.fold.unique()) == 1 and split == calibrate != "val":
        raise ConfigError(
            f"the pairs of {split!r} are all of one fold and would choose their own threshold; "
            "calibrate on another split, or draw several folds"
        )


def _scores(context: EvaluationContext, similarity: Any, split: str, pairs: Pairs) -> np.ndarray:
    """How alike the two of each pair are, `[M]` float64."""
    bank = context.bank(split)
    place = torch.full((len(context.data.labels),), -1)
    place[bank.index] = torch.arange(len(bank))
    i, j = place[pairs.i], place[pairs.j]
    if (i < 0).any() or (j < 0).any():
        raise DataError(f"{context.data.name}: a pair of split {split!r} has an image of another split")
    similarity = similarity.double()
    features = bank.features if similarity.needs_map else replace(bank.features, map=None)
    parts = []
    for a, b in zip(i.split(CHUNK), j.split(CHUNK), strict=True):
        first, second = (features[places].apply(Tensor.double) for places in (a, b))
        parts.append(similarity.pair(first, second).detach())
    scores: np.ndarray = torch.cat(parts).numpy()
    return scores


def _mistakes(
    data: LabeledImages, pairs: Pairs, scores: np.ndarray, thresholds: np.ndarray, right: np.ndarray
) -> list[dict[str, Any]]:
    """The pairs that are most on the wrong side, of both kinds, worst first."""
    wrong_by = np.abs(scores - thresholds)
    found = []
    for kind in (True, False):
        chosen = np.flatnonzero((pairs.same.numpy() == kind) & (right == 0))
        for n in chosen[np.argsort(-wrong_by[chosen], kind="stable")][:SHOWN].tolist():
            i, j = int(pairs.i[n]), int(pairs.j[n])
            told: dict[str, Any] = {"first": i, "second": j, "same": kind, "score": float(scores[n])}
            if data.image_names:
                told |= {"first_name": data.image_names[i], "second_name": data.image_names[j]}
            found.append(told | {"threshold": float(thresholds[n])})
    return found
