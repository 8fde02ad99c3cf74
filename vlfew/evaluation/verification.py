"""Verification: do two pictures show the same class? By a threshold that was chosen on other classes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.counting import generator_at
from vlfew.data.images import LabelledImages
from vlfew.data.pairs import Pairs
from vlfew.errors import ConfigError, DataError
from vlfew.evaluation.bank import split_pictures
from vlfew.evaluation.few_shot import check_scorer
from vlfew.evaluation.results import cluster_error, mean_ci95, student
from vlfew.evaluation.roc import (
    area_under,
    band,
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
    fold = scoring_fold(tested).numpy()
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
    both = [own for own in (fold == n for n in numbers) if same[own].any() and not same[own].all()]
    both = both or [np.ones(len(same), dtype=bool)]
    details["roc"] = band(np.stack([tar_curve(scores[own], same[own]) for own in both]))
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
    same, sides = own.same.numpy(), own.fold.numpy()
    numbers = np.unique(sides)
    # Pairs across folds may leave a fold one kind only, which is nobody's mistake: then it has no curve.
    if (sides[:, 0] == sides[:, 1]).all():
        for n in numbers:
            where = f"{data.name} {split}" + (f", fold {n + 1}" if len(numbers) > 1 else "")
            _require_both(same[sides[:, 0] == n], f"{where}: the pairs")
    if len(numbers) > 1:
        for first, second in np.unique(np.sort(sides, axis=1), axis=0):
            apart = ~np.isin(sides, (first, second)).any(axis=1)
            which = f"fold {first + 1}" if first == second else f"folds {first + 1} and {second + 1}"
            _require_both(same[apart], f"{data.name} {split}: the pairs apart from {which}")
    return own


def scoring_fold(pairs: Pairs) -> Tensor:
    """The fold `[M]` in which each pair counts: of a pair across folds, the one with the lower number."""
    return pairs.fold.min(dim=1).values


def draw_pairs(data: LabelledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """Pairs of a split's pictures, half the same, none twice, in folds that share no class.

    As many as are asked for, or as there are of both kinds. A same pair takes a class of at least two pictures, each as
    likely as the other, and two of its pictures; a different pair takes two classes of a fold and a
    picture of each.

    Raises:
        DataError: fewer than two classes, or no class with two pictures.
        ConfigError: fewer than 2 pairs or 1 fold.
    """
    if pairs < 2 or folds < 1:
        raise ConfigError(f"verification needs at least 2 pairs and 1 fold, not {pairs} and {folds}")
    split_pictures(data, split)
    members = {c: index.numpy() for c, index in data.by_class(split).items()}
    rng = generator_at(seed, "pairs", split)
    able = sum(len(own) > 1 for own in members.values())
    if len(members) < 2 or not able:
        raise DataError(
            f"{data.name}: split {split!r} has {len(members)} classes, {able} of them with two pictures or "
            "more: too few to draw same and different pairs from"
        )
    folds = max(1, min(folds, len(members) // 2, able, pairs // 2))
    # Classes that can make a same pair are dealt out first, so that every fold has its share.
    order = sorted(rng.permutation(list(members)), key=lambda c: len(members[c]) < 2)
    i: list[int] = []
    j: list[int] = []
    same: list[bool] = []
    fold: list[int] = []
    for n in range(folds):
        own = [members[c] for c in order[n::folds]]
        # Every pair once, and as many of one kind as of the other.
        there = _countable(own)
        half = min((pairs // folds + (n < pairs % folds)) // 2, *there.values())
        for kind in (True, False):
            drawn = _distinct_pairs(own, kind, half, there[kind], rng)
            i += [a for a, _ in drawn]
            j += [b for _, b in drawn]
            same += [kind] * half
            fold += [n] * half
    return Pairs(torch.tensor(i), torch.tensor(j), torch.tensor(same), torch.tensor([fold, fold]).T)


def _countable(classes: list[np.ndarray]) -> dict[bool, int]:
    """How many pairs there are that are the same, and different."""
    sizes = np.array([len(own) for own in classes])
    within = int((sizes * (sizes - 1) // 2).sum())
    return {True: within, False: int(sizes.sum() * (sizes.sum() - 1) // 2) - within}


def _distinct_pairs(
    classes: list[np.ndarray], same: bool, wanted: int, there: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """As many pairs of pictures as wanted of those that are there, none twice."""
    sizes = np.array([len(own) for own in classes])
    if 2 * wanted >= there:
        labelled = [(int(p), c) for c, own in enumerate(classes) for p in own]
        every = [(p, q) for (p, a), (q, b) in combinations(labelled, 2) if (a == b) == same]
        return [every[n] for n in rng.permutation(len(every))[:wanted]]
    several = np.flatnonzero(sizes > 1)
    found: dict[tuple[int, int], None] = {}
    while len(found) < wanted:
        if same:
            one = other = several[rng.integers(len(several))]
            first, second = rng.choice(classes[one], 2, replace=False)
        else:
            one, other = rng.choice(len(classes), 2, replace=False)
            first, second = rng.choice(classes[one]), rng.choice(classes[other])
        found.setdefault((int(min(first, second)), int(max(first, second))))
    return list(found)


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
        raise DataError(
            f"{what} are all {label}, and both kinds are needed to choose a threshold and to score; "
            "take fewer folds, or add pairs"
        )


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
