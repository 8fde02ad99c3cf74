"""Pairs of a split to verify: the data set's own, or drawn ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vlfew.core.errors import ConfigError, DataError
from vlfew.core.files import atomic_file
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.evaluation.feature_bank import split_images

PAIRS, FOLDS = 6000, 10
"""How many pairs are drawn, in how many folds, where nothing else is asked: as many as LFW's View 2 has."""


def split_pairs(data: LabeledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """The split's own pairs, or drawn ones; a threshold can be chosen for each of them.

    Raises:
        DataError: pairs of which some choice of a threshold, or a fold, meets one kind only; see
            `sample_pairs`.
    """
    own = data.pairs.get(split)
    if own is None:
        return sample_pairs(data, split, pairs, folds, seed)
    same, sides = own.same.numpy(), own.fold.numpy()
    numbers = np.unique(sides)
    # Pairs across folds may leave a fold one kind only, which is nobody's mistake: then it has no curve.
    if (sides[:, 0] == sides[:, 1]).all():
        for n in numbers:
            where = f"{data.name} {split}" + (f", fold {n + 1}" if len(numbers) > 1 else "")
            _check_both(same[sides[:, 0] == n], f"{where}: the pairs")
    if len(numbers) > 1:
        for first, second in np.unique(np.sort(sides, axis=1), axis=0):
            apart = ~np.isin(sides, (first, second)).any(axis=1)
            which = f"fold {first + 1}" if first == second else f"folds {first + 1} and {second + 1}"
            _check_both(same[apart], f"{data.name} {split}: the pairs apart from {which}")
    return own


def kept_pairs(
    data: LabeledImages, split: str, pairs: int | None, folds: int | None, seed: int, file: Path | None
) -> Pairs:
    """`split_pairs`; where they are drawn, kept in `file`, or read from it when it is there.

    What is not given has its default: 6,000 pairs in 10 folds.

    Raises:
        ConfigError: something is asked of drawn pairs, and the split has its own; the file holds others
            than were asked for.
        DataError: the file is damaged or of other data; as `split_pairs`.
    """
    if split in data.pairs:
        for option, given in (("pairs", pairs), ("folds", folds), ("pairs_file", file)):
            if given is not None:
                raise ConfigError(
                    f"the pairs of {data.name} {split} are its own, not drawn ones; leave {option} out"
                )
    pairs, folds = pairs if pairs is not None else PAIRS, folds if folds is not None else FOLDS
    if file is None:
        return split_pairs(data, split, pairs, folds, seed)
    drawn_from, asked = f"{data.name} {data.fingerprint} {split}", f"{pairs} pairs in {folds} folds"
    if file.exists():
        return _load_pairs(file, drawn_from, asked)
    drawn = sample_pairs(data, split, pairs, folds, seed)
    tensors = {name: getattr(drawn, name).contiguous() for name in ("i", "j", "same", "fold")}
    with atomic_file(file) as temporary:
        save_file(tensors, temporary, metadata={"fingerprint": drawn_from, "asked": asked})
    return drawn


def _load_pairs(path: Path, drawn_from: str, asked: str) -> Pairs:
    """The pairs in a file, held to being of these data and those that are asked for."""
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            pairs = Pairs(*(file.get_tensor(name) for name in ("i", "j", "same", "fold")))
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read pairs from {path}: {error}") from error
    if told.get("fingerprint") != drawn_from:
        raise DataError(
            f"the pairs in {path} were drawn from {told.get('fingerprint')}, not from {drawn_from}"
        )
    if told.get("asked") != asked:
        raise ConfigError(f"{path} holds {told.get('asked')}, not {asked}; name another file")
    return pairs


def sample_pairs(data: LabeledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """Pairs of a split's images, half the same, none twice, in folds that share no class.

    As many as are asked for, or as there are of both kinds. A same pair takes a class of at least two
    images, each as likely as the other, and two of its images; a different pair takes two classes
    of a fold and an image of each.

    Raises:
        DataError: fewer than two classes, or no class with two images.
        ConfigError: fewer than 2 pairs or 1 fold.
    """
    if pairs < 2 or folds < 1:
        raise ConfigError(f"verification needs at least 2 pairs and 1 fold, not {pairs} and {folds}")
    split_images(data, split)
    members = {c: index.numpy() for c, index in data.by_class(split).items()}
    rng = generator_at(seed, "pairs", split)
    able = sum(len(own) > 1 for own in members.values())
    if len(members) < 2 or not able:
        raise DataError(
            f"{data.name}: split {split!r} has {len(members)} classes, {able} of them with two images or "
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
    """As many pairs of images as wanted of those that are there, none twice."""
    sizes = np.array([len(own) for own in classes])
    if 2 * wanted >= there:
        labeled = [(int(p), c) for c, own in enumerate(classes) for p in own]
        every = [(p, q) for (p, a), (q, b) in combinations(labeled, 2) if (a == b) == same]
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


def _check_both(same: np.ndarray, what: str) -> None:
    if same.all() or not same.any():
        label = "the same" if len(same) and same.all() else "different"
        raise DataError(
            f"{what} are all {label}, and both kinds are needed to choose a threshold and to score; "
            "take fewer folds, or add pairs"
        )
