"""Pairs of images of a split for verification: the data set's own, or drawn ones."""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from vlfew.core.errors import ConfigError, DataError
from vlfew.core.random import generator_at
from vlfew.core.tensor_file import load_tensors, save_tensors
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs, why_not_scored
from vlfew.evaluation.feature_bank import split_indices

TENSORS = ("i", "j", "same", "fold")
PAIRS, FOLDS = 6000, 10
"""Defaults for drawn pairs: as in LFW's View 2."""


def split_pairs(data: LabeledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """The split's own pairs, or drawn ones, with same and different pairs wherever a threshold is chosen.

    Raises:
        DataError: a fold, or the pairs that choose its threshold, are all same or all different;
            see `sample_pairs`.
    """
    own = data.pairs.get(split)
    if own is None:
        return sample_pairs(data, split, pairs, folds, seed)
    identity = torch.stack([data.labels[own.i], data.labels[own.j]], dim=1)
    why, remedy = why_not_scored(own.same.numpy(), own.fold.numpy(), identity.numpy())
    if why:
        raise DataError(
            f"{data.name} {split}: {why}, and both kinds are needed to choose a threshold and to score; "
            + ", or ".join(filter(None, [own.way_out, remedy]))
        )
    return own


def other_calibration(data: LabeledImages, split: str, pairs: int, seed: int) -> list[str]:
    """What else could choose the threshold of pairs of one fold, each tried; empty where nothing can.

    Args:
        data: the data set.
        split: of the pairs.
        pairs: number of pairs to draw where a split has none of its own.
        seed: of the random draws.
    """
    ways = []
    for other in data.splits:
        with suppress(DataError):
            if other not in (split, "train") and len(split_pairs(data, other, pairs, 1, seed)):
                ways.append(f"calibrate on {other!r}")
    own = data.pairs.get(split)
    with suppress(DataError):
        if own is None and len(sample_pairs(data, split, pairs, 2, seed).fold.unique()) > 1:
            ways.append("draw several folds")
    return [*ways, *([own.way_out] if own is not None and own.way_out else [])]


def load_or_sample_pairs(
    data: LabeledImages, split: str, pairs: int | None, folds: int | None, seed: int, file: Path | None
) -> Pairs:
    """`split_pairs`; drawn pairs are saved in `file`, or read from it when it exists.

    Pairs and folds default to 6,000 and 10.

    Raises:
        ConfigError: an option for drawn pairs where the split has its own; the file holds another number of
            pairs or folds.
        DataError: the file is damaged or belongs to other data; as `split_pairs`.
    """
    if split in data.pairs:
        for option, value in (("pairs", pairs), ("folds", folds), ("pairs_file", file)):
            if value is not None:
                raise ConfigError(
                    f"{data.name} {split} has its own pairs, none are drawn; leave {option} out"
                )
    pairs, folds = pairs if pairs is not None else PAIRS, folds if folds is not None else FOLDS
    if file is None:
        return split_pairs(data, split, pairs, folds, seed)
    fingerprint, size = f"{data.name} {data.fingerprint} {split}", f"{pairs} pairs in {folds} folds"
    if file.exists():
        return _load_pairs(file, fingerprint, size)
    drawn = sample_pairs(data, split, pairs, folds, seed)
    tensors = {name: getattr(drawn, name) for name in TENSORS}
    save_tensors(file, tensors, {"fingerprint": fingerprint, "size": size})
    return drawn


def _load_pairs(path: Path, fingerprint: str, size: str) -> Pairs:
    """The pairs in a file, if they are of these data and of this size."""
    tensors, metadata = load_tensors(path, "pairs", fingerprint)
    saved = metadata.get("size") or metadata.get("asked")  # its name in files of version 0.1
    if saved != size:
        raise ConfigError(f"{path} holds {saved}, not {size}; name another file")
    i, j, same, fold = (tensors[name] for name in TENSORS)
    return Pairs(i, j, same, fold)


def sample_pairs(data: LabeledImages, split: str, pairs: int, folds: int, seed: int) -> Pairs:
    """Random pairs of a split's images, half of them same, without duplicates, in folds that share no class.

    At most `pairs`, or as many as there are of both kinds. A same pair takes a class of at least two
    images, each equally likely, and two of its images; a different pair takes two classes
    of a fold and an image of each.

    Raises:
        DataError: fewer than two classes, or no class with two images.
        ConfigError: fewer than 2 pairs or 1 fold.
    """
    if pairs < 2 or folds < 1:
        raise ConfigError(f"verification needs at least 2 pairs and 1 fold, not {pairs} and {folds}")
    split_indices(data, split)
    members = {c: index.numpy() for c, index in data.by_class(split).items()}
    rng = generator_at(seed, "pairs", split)
    several = sum(len(images) > 1 for images in members.values())
    if len(members) < 2 or not several:
        raise DataError(
            f"{data.name}: split {split!r} has {len(members)} classes, {several} of them with two images or "
            "more: too few to draw same and different pairs from"
        )
    folds = max(1, min(folds, len(members) // 2, several, pairs // 2))
    # Classes that can make a same pair are dealt out first, so that every fold has its share.
    order = sorted(rng.permutation(list(members)), key=lambda c: len(members[c]) < 2)
    i: list[int] = []
    j: list[int] = []
    same: list[bool] = []
    fold: list[int] = []
    for n in range(folds):
        classes = [members[c] for c in order[n::folds]]
        # Every pair once, and as many of one kind as of the other.
        available = _count_pairs(classes)
        half = min((pairs // folds + (n < pairs % folds)) // 2, *available.values())
        for kind in (True, False):
            drawn = _distinct_pairs(classes, kind, half, available[kind], rng)
            i += [a for a, _ in drawn]
            j += [b for _, b in drawn]
            same += [kind] * half
            fold += [n] * half
    return Pairs(torch.tensor(i), torch.tensor(j), torch.tensor(same), torch.tensor([fold, fold]).T)


def _count_pairs(classes: list[np.ndarray]) -> dict[bool, int]:
    """The number of all same pairs, and of all different pairs."""
    sizes = np.array([len(images) for images in classes])
    within = int((sizes * (sizes - 1) // 2).sum())
    return {True: within, False: int(sizes.sum() * (sizes.sum() - 1) // 2) - within}


def _distinct_pairs(
    classes: list[np.ndarray], same: bool, count: int, available: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """`count` different pairs of images of one kind, of the `available` ones."""
    sizes = np.array([len(images) for images in classes])
    if 2 * count >= available:
        labeled = [(int(image), c) for c, images in enumerate(classes) for image in images]
        every = [(p, q) for (p, a), (q, b) in combinations(labeled, 2) if (a == b) == same]
        return [every[n] for n in rng.permutation(len(every))[:count]]
    several = np.flatnonzero(sizes > 1)
    drawn: dict[tuple[int, int], None] = {}
    while len(drawn) < count:
        if same:
            one = several[rng.integers(len(several))]
            first, second = rng.choice(classes[one], 2, replace=False)
        else:
            one, other = rng.choice(len(classes), 2, replace=False)
            first, second = rng.choice(classes[one]), rng.choice(classes[other])
        drawn.setdefault((int(min(first, second)), int(max(first, second))))
    return list(drawn)
