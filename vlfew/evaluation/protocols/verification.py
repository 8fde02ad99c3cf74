"""Verification: do two images show the same class? Decided by a threshold that was chosen on other classes."""

from __future__ import annotations

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
from vlfew.evaluation.pairs import (
    PAIRS,
    load_or_sample_pairs,
    other_calibration,
    sample_pairs,
    split_pairs,
)
from vlfew.evaluation.roc import (
    area_under,
    best_threshold,
    equal_error_rate,
    false_accept_threshold,
    tar_curve,
)
from vlfew.evaluation.statistics import cluster_error, half_interval, mean_ci95, mean_curve
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.base import Similarity

TARGETS = (1e-2, 1e-3)
"""False-accept rates at which the true-accept rate is reported."""
CHUNK = 1024
"""Pairs that are scored at a time."""
MAX_MISTAKES = 12
"""Worst mistakes of each kind in the result."""


def verification(
    context: EvaluationContext,
    *,
    split: str = "test",
    calibration_split: str = "val",
    pairs: int | None = None,
    calibration_pairs: int | None = None,
    folds: int | None = None,
    seed: int = 0,
    similarity: str = "default",
    pairs_file: Path | None = None,
) -> ProtocolResult:
    """Share of pairs that are classified correctly as same or different, by thresholds chosen on other classes.

    The pairs are the data set's own, otherwise drawn. Where they lie in several folds of classes, the threshold for a
    fold is the best one on the pairs that share no fold with it (LFW's View 2: nine folds choose, the tenth is
    scored). Where they are all of one fold, as for a model that was trained for it, the threshold is chosen on the
    pairs of the split `calibration_split`. (Where that is the evaluated split, as when models are compared on `val`
    during training, pairs choose their own threshold and the accuracy is optimistic.) It is always one of the scores
    that occur there. The interval is over folds, or over pairs where there is one fold.

    Also reported: the area under the ROC and the equal error rate over all pairs, and the TAR at FAR
    1e-2 and 1e-3, whose thresholds are chosen on the same pairs as the accuracy's; left out where there are
    too few different pairs to set them.

    Args:
        context: the model and the data.
        split: the split whose pairs are evaluated.
        calibration_split: split that chooses the threshold where the pairs are of one fold; unused otherwise.
        pairs: number of pairs to draw, half of them same, where the data have none of their own; 6,000 by default.
            Classes with few images may give slightly fewer.
        calibration_pairs: draw this many pairs from `calibration_split`, even where it has its own.
        folds: number of folds of the drawn pairs, at most half the classes; 10 by default.
        seed: of the random draws.
        similarity: by name; `default` is the one the model was trained for.
        pairs_file: file to save the drawn pairs in, or to read them from where it exists.

    Raises:
        DataError: no such split; too few classes or images to draw pairs from; a fold whose pairs
            are all same or all different.
        ConfigError: fewer than 2 pairs or 1 fold; a threshold chosen by the pairs that are scored; a
            pairs_file with others, or where none are drawn.
    """
    scored = score_pairs(
        context, split, calibration_split, pairs, calibration_pairs, folds, seed, similarity, pairs_file
    )
    scores, same = scored.scores, scored.pairs.same.numpy()
    correct = scored.correct.astype(np.float64)
    # Of a pair across folds, the one with the lower number.
    fold = scored.pairs.fold.min(dim=1).values.numpy()
    numbers = np.unique(fold)
    accuracy, ci95 = mean_ci95(correct.tolist())
    details: dict[str, Any] = {"interval": "over pairs"}
    if len(numbers) > 1:
        counts = [(float(correct[fold == n].sum()), float((fold == n).sum())) for n in numbers]
        # For folds of one size (LFW's): the mean over folds, and its standard error with ddof 1.
        error = cluster_error(*zip(*counts, strict=True))
        ci95 = half_interval(error, len(numbers))
        details = {
            "fold_accuracies": [hits / total for hits, total in counts],
            "standard_error": error,
            "interval": "over folds",
        }
    details |= {
        "chance": float(max(same.mean(), 1 - same.mean())),
        "pairs": len(scored.pairs),
        "similarity": similarity,
        "threshold": float(np.mean(scored.thresholds)),
        "threshold_chosen_on": scored.chosen_on,
        "auc": area_under(scores, same),
        "eer": equal_error_rate(scores, same),
    }
    for target in TARGETS:
        name = f"far_{target:g}"
        if target in scored.refused:
            details[f"{name}_refused"] = scored.refused[target]
            continue
        accepted = scores >= scored.accept[target]
        details[f"tar_at_{name}"] = float(accepted[same].mean())
        details[f"measured_{name}"] = float(accepted[~same].mean())
    with_both = [own for own in (fold == n for n in numbers) if same[own].any() and not same[own].all()]
    with_both = with_both or [np.ones(len(same), dtype=bool)]
    curves = np.stack([tar_curve(scores[own], same[own]) for own in with_both])
    details["roc"] = mean_curve(curves)
    details["mistakes"] = _worst_mistakes(context.data, scored)
    return ProtocolResult(accuracy, ci95, len(scored.pairs), details, correct)


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs with their scores and thresholds.

    Attributes:
        pairs: M of them.
        scores: `[M]` float64, higher is more similar.
        thresholds: `[M]`, each chosen on pairs that share no class with the pair.
        accept: false-accept rate to the thresholds `[M]` that were set for it in the same way.
        refused: the rates for which there were too few pairs, and the message.
        chosen_on: the pairs that chose the thresholds, in words.
    """

    pairs: Pairs
    scores: np.ndarray
    thresholds: np.ndarray
    accept: dict[float, np.ndarray]
    refused: dict[float, str]
    chosen_on: str

    @property
    def correct(self) -> np.ndarray:
        """`[M]` whether each pair is classified correctly."""
        correct: np.ndarray = (self.scores >= self.thresholds) == self.pairs.same.numpy()
        return correct


def score_pairs(
    context: EvaluationContext,
    split: str,
    calibration_split: str,
    pairs: int | None,
    calibration_pairs: int | None,
    folds: int | None,
    seed: int,
    similarity: str,
    pairs_file: Path | None,
) -> ScoredPairs:
    """Scores the pairs of `verification`, which explains the options, and chooses their thresholds."""
    data = context.data
    if similarity != "default":
        SIMILARITIES.get(similarity)  # raises for an unknown name
    tested = load_or_sample_pairs(data, split, pairs, folds, seed, pairs_file)
    same, fold = tested.same.numpy(), tested.fold.numpy()
    one_fold = len(np.unique(fold)) == 1
    if one_fold:
        # Comparing models on `val` during training is the exception.
        if calibration_split not in data.splits or split == calibration_split != "val":
            why = "would choose their own threshold"
            if calibration_split not in data.splits:
                why = f"{data.name} has no split {calibration_split!r} to choose their threshold on"
            ways = other_calibration(data, split, PAIRS if pairs is None else pairs, seed)
            raise (ConfigError if split == calibration_split else DataError)(
                f"the pairs of {split!r} are all of one fold and {why}; "
                + (", or ".join(ways) or "add images of further classes")
            )
        if calibration_pairs is not None:
            others = sample_pairs(data, calibration_split, calibration_pairs, 1, seed)
        else:
            others = split_pairs(data, calibration_split, PAIRS if pairs is None else pairs, 1, seed)
    compare = context.model.similarity_by_name(similarity)
    scores = _scores(context, compare, split, tested)
    thresholds = np.empty(len(tested))
    accept = {target: np.full(len(tested), np.nan) for target in TARGETS}
    refused: dict[float, str] = {}

    def choose(of: np.ndarray | slice, by_scores: np.ndarray, by_same: np.ndarray) -> None:
        thresholds[of] = best_threshold(by_scores, by_same)
        for target in TARGETS:
            try:
                accept[target][of] = false_accept_threshold(by_scores[~by_same], target)
            except DataError as error:
                refused[target] = str(error)

    if one_fold:
        choose(slice(None), _scores(context, compare, calibration_split, others), others.same.numpy())
        return ScoredPairs(
            tested, scores, thresholds, accept, refused, f"{len(others):,} pairs of {calibration_split}"
        )
    for first, second in np.unique(np.sort(fold, axis=1), axis=0):
        outside = ~np.isin(fold, (first, second)).any(axis=1)
        choose((np.sort(fold, axis=1) == (first, second)).all(axis=1), scores[outside], same[outside])
    return ScoredPairs(tested, scores, thresholds, accept, refused, "the other folds")


def _scores(context: EvaluationContext, similarity: Similarity, split: str, pairs: Pairs) -> np.ndarray:
    """Similarities `[M]` of the pairs, in float64."""
    bank = context.bank(split)
    position = torch.full((len(context.data.labels),), -1)
    position[bank.index] = torch.arange(len(bank))
    i, j = position[pairs.i], position[pairs.j]
    if (i < 0).any() or (j < 0).any():
        raise DataError(f"{context.data.name}: a pair of split {split!r} has an image of another split")
    similarity = similarity.double()
    features = bank.features if similarity.needs_map else replace(bank.features, map=None)
    parts = []
    for a, b in zip(i.split(CHUNK), j.split(CHUNK), strict=True):
        first, second = (features[positions].apply(Tensor.double) for positions in (a, b))
        parts.append(similarity.pairwise(first, second).detach())
    scores: np.ndarray = torch.cat(parts).numpy()
    return scores


def _worst_mistakes(data: LabeledImages, scored: ScoredPairs) -> list[dict[str, Any]]:
    """The pairs furthest on the wrong side of their threshold, of both kinds, worst first."""
    pairs, distance = scored.pairs, np.abs(scored.scores - scored.thresholds)
    mistakes = []
    for kind in (True, False):
        wrong = np.flatnonzero((pairs.same.numpy() == kind) & ~scored.correct)
        for n in wrong[np.argsort(-distance[wrong], kind="stable")][:MAX_MISTAKES].tolist():
            i, j = int(pairs.i[n]), int(pairs.j[n])
            mistake: dict[str, Any] = {
                "first": i,
                "second": j,
                "same": kind,
                "score": float(scored.scores[n]),
            }
            if data.image_names:
                mistake |= {"first_name": data.image_names[i], "second_name": data.image_names[j]}
            mistakes.append(mistake | {"threshold": float(scored.thresholds[n])})
    return mistakes
