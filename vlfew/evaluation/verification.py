"""Verification: do two pictures show the same class? By a threshold that was chosen on other classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vlfew.counting import generator_at
from vlfew.data.images import LabelledImages
from vlfew.data.pairs import Pairs
from vlfew.errors import ConfigError, DataError
from vlfew.evaluation.bank import split_pictures
from vlfew.evaluation.few_shot import check_scorer
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.roc import (
    FAR_GRID,
    area_under,
    best_threshold,
    equal_error_rate,
    false_accept_threshold,
    tar_curve,
)
from vlfew.evaluation.subject import Outcome, Subject

TARGETS = (1e-2, 1e-3)
"""False-accept rates at which the true-accept rate is told."""
SHOWN = 12
"""Worst mistakes that are kept of each kind."""


def verification(
    subject: Subject,
    *,
    split: str = "test",
    calibrate: str = "val",
    pairs: int = 6000,
    calibration_pairs: int | None = None,
    folds: int = 10,
    seed: int = 0,
    scorer: str = "default",
) -> Outcome:
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
        subject: the model and the data.
        split: which pairs.
        calibrate: split that gives the threshold where the pairs are of one fold.
        pairs: how many are drawn, half the same, where the data have none of their own.
        calibration_pairs: draw so many from `calibrate`, though it has pairs of its own.
        folds: of the drawn pairs; at most half the classes.
        seed: of the draws.
        scorer: by name; `default` is what the model was trained for.

    Raises:
        DataError: no such split; too few classes or pictures to draw pairs from; a fold whose pairs
            are all the same or all different.
        ConfigError: fewer than 2 pairs or 1 fold; a threshold chosen by the pairs that are scored.
    """
    tested = split_pairs(subject.data, split, pairs, folds, seed)
    _require_apart(tested, split, calibrate)
    similarity = subject.model.scorer(scorer)
    scores, same, own = _scores(subject, similarity, split, tested), tested.same.numpy(), tested.fold.numpy()
    thresholds = np.empty(len(tested))
    accept = {target: np.full(len(tested), np.nan) for target in TARGETS}
    missing: dict[float, str] = {}

    def choose(cell: np.ndarray | slice, from_scores: np.ndarray, from_same: np.ndarray) -> None:
        thresholds[cell] = best_threshold(from_scores, from_same)
        for target in TARGETS:
            try:
                accept[target][cell] = false_accept_threshold(from_scores[~from_same], target)
            except DataError as error:
                missing[target] = str(error)

    if len(np.unique(own)) > 1:
        for first, second in np.unique(np.sort(own, axis=1), axis=0):
            apart = ~np.isin(own, (first, second)).any(axis=1)
            _require_both(same[apart], f"{subject.data.name}: the pairs apart from fold {first + 1}")
            choose((np.sort(own, axis=1) == (first, second)).all(axis=1), scores[apart], same[apart])
        chosen_on = "the other folds"
    else:
        if calibration_pairs is None:
            others = split_pairs(subject.data, calibrate, pairs, 1, seed)
        else:
            others = draw_pairs(subject.data, calibrate, calibration_pairs, 1, seed)
        choose(slice(None), _scores(subject, similarity, calibrate, others), others.same.numpy())
        chosen_on = f"{len(others):,} pairs of {calibrate}"

    right = ((scores >= thresholds) == same).astype(np.float64)
    fold = own[:, 0]
    numbers = np.unique(fold)
    by_fold = [float(right[fold == n].mean()) for n in numbers]
    if len(numbers) > 1:
        accuracy, ci95 = mean_ci95(by_fold)
        details: dict[str, Any] = {
            "fold_accuracies": by_fold,
            "standard_error": float(np.std(by_fold, ddof=1) / np.sqrt(len(by_fold))),
            "interval": "over folds",
        }
    else:
        accuracy, ci95 = mean_ci95(right.tolist())
        details = {"interval": "over pairs"}
    details |= {
        "pairs": len(tested),
        "scorer": scorer,
        "threshold": float(np.mean(thresholds)),
        "threshold_chosen_on": chosen_on,
        "auc": area_under(scores, same),
        "eer": equal_error_rate(scores, same),
    }
    for target in TARGETS:
        name = f"far_{target:g}"
        if target in missing:
            details[f"{name}_refused"] = missing[target]
            continue
        accepted = scores >= accept[target]
        details[f"tar_at_{name}"] = float(accepted[same].mean())
        details[f"measured_{name}"] = float(accepted[~same].mean())
    curves = np.stack([tar_curve(scores[fold == n], same[fold == n]) for n in numbers])
    details["roc"] = roc_band(curves)
    details["mistakes"] = _mistakes(subject.data, tested, scores, thresholds, right)
    return Outcome(accuracy, ci95, len(tested), details, right)


def check_verification(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `verification` would, from the labels alone."""
    o = options
    check_scorer(o["scorer"])
    tested = split_pairs(data, o["split"], o["pairs"], o["folds"], o["seed"])
    _require_apart(tested, o["split"], o["calibrate"])
    if len(tested.fold.unique()) == 1:
        if o["calibration_pairs"] is None:
            split_pairs(data, o["calibrate"], o["pairs"], 1, o["seed"])
        else:
            draw_pairs(data, o["calibrate"], o["calibration_pairs"], 1, o["seed"])


def split_pairs(data: LabelledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """The split's own pairs, or drawn ones.

    Raises:
        DataError: see `verification`.
    """
    own = data.pairs.get(split)
    if own is None:
        return draw_pairs(data, split, pairs, folds, seed)
    same, fold = own.same.numpy(), own.fold[:, 0].numpy()
    for n in np.unique(fold):
        where = f"{data.name} {split}" + (f", fold {n + 1}" if len(np.unique(fold)) > 1 else "")
        _require_both(same[fold == n], f"{where}: the pairs")
    return own


def draw_pairs(data: LabelledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """Pairs of a split's pictures, half the same, in folds that share no class.

    A same pair takes a class of at least two pictures, each as likely as the other, and two of its
    pictures; a different pair takes two classes of a fold and a picture of each.

    Raises:
        DataError: fewer than two classes, or no class with two pictures, in a fold.
        ConfigError: fewer than 2 pairs or 1 fold.
    """
    if pairs < 2 or folds < 1:
        raise ConfigError(f"verification needs at least 2 pairs and 1 fold, not {pairs} and {folds}")
    split_pictures(data, split)
    members = {c: index.numpy() for c, index in data.by_class(split).items()}
    rng = generator_at(seed, "pairs", split)
    folds = max(1, min(folds, len(members) // 2, pairs // 2))
    # Classes that can make a same pair are dealt out first, so that every fold has its share.
    order = sorted(rng.permutation(list(members)), key=lambda c: len(members[c]) < 2)
    i: list[int] = []
    j: list[int] = []
    same: list[bool] = []
    fold: list[int] = []
    for n in range(folds):
        classes = order[n::folds]
        several = [c for c in classes if len(members[c]) > 1]
        if len(classes) < 2 or not several:
            raise DataError(
                f"{data.name}: split {split!r} has {len(members)} classes, {len(several)} of them with two "
                "pictures or more: too few to draw same and different pairs from"
            )
        count = pairs // folds + (n < pairs % folds)
        for k in range(count):
            if k < count // 2:
                one = other = several[rng.integers(len(several))]
                first, second = rng.choice(members[one], 2, replace=False)
            else:
                one, other = rng.choice(classes, 2, replace=False)
                first, second = rng.choice(members[one]), rng.choice(members[other])
            i.append(int(first))
            j.append(int(second))
            same.append(bool(one == other))
            fold.append(n)
    return Pairs(torch.tensor(i), torch.tensor(j), torch.tensor(same), torch.tensor([fold, fold]).T)


def roc_band(curves: np.ndarray) -> dict[str, list[float]]:
    """A curve for people to see: TAR at `FAR_GRID`, mean and one standard error about it.

    Args:
        curves: `[folds, len(FAR_GRID)]`.
    """
    mean = curves.mean(axis=0)
    band = {"far": FAR_GRID.tolist(), "tar": mean.tolist()}
    if len(curves) > 1:
        error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
        band |= {"low": (mean - error).clip(0).tolist(), "high": (mean + error).clip(max=1).tolist()}
    return band


def _require_apart(tested: Pairs, split: str, calibrate: str) -> None:
    """A threshold is not judged by the pairs that chose it, but for comparing models on `val`."""
    if len(tested.fold.unique()) == 1 and split == calibrate != "val":
        raise ConfigError(
            f"the pairs of {split!r} are all of one fold and would choose their own threshold; "
            "calibrate on another split, or draw several folds"
        )


def _scores(subject: Subject, similarity: Any, split: str, pairs: Pairs) -> np.ndarray:
    """How alike the two of each pair are, `[M]` float64."""
    bank = subject.bank(split)
    place = torch.full((len(subject.data.labels),), -1)
    place[bank.index] = torch.arange(len(bank))
    i, j = place[pairs.i], place[pairs.j]
    if (i < 0).any() or (j < 0).any():
        raise DataError(f"{subject.data.name}: a pair of split {split!r} has a picture of another split")
    embedding = bank.features.embedding.double()
    scores: np.ndarray = similarity.double().pair(embedding[i], embedding[j]).detach().numpy()
    return scores


def _require_both(same: np.ndarray, what: str) -> None:
    if same.all() or not same.any():
        label = "the same" if len(same) and same.all() else "different"
        raise DataError(f"{what} are all {label}; both kinds are needed to choose a threshold and to score")


def _mistakes(
    data: LabelledImages, pairs: Pairs, scores: np.ndarray, thresholds: np.ndarray, right: np.ndarray
) -> list[dict[str, Any]]:
    """The pairs that are most on the wrong side, of both kinds, worst first."""
    wrong_by = np.abs(scores - thresholds)
    found = []
    for kind in (True, False):
        chosen = np.flatnonzero((pairs.same.numpy() == kind) & (right == 0))
        for n in chosen[np.argsort(-wrong_by[chosen], kind="stable")][:SHOWN].tolist():
            i, j = int(pairs.i[n]), int(pairs.j[n])
            told: dict[str, Any] = {"first": i, "second": j, "same": kind, "score": float(scores[n])}
            if data.picture_names:
                told |= {"first_name": data.picture_names[i], "second_name": data.picture_names[j]}
            found.append(told | {"threshold": float(thresholds[n])})
    return found
