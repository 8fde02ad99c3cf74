"""The episodes of a split, drawn in one of three ways or read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vlfew.core.errors import ConfigError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.episodes import (
    CountOrAll,
    Episodes,
    enumerate_supports,
    images_needed,
    sample_cross_split,
    sample_episodes,
)
from vlfew.evaluation.feature_bank import split_indices

USUAL_QUERIES = 15
"""Query images per class in most of the literature."""


def choose_queries(
    data: LabeledImages,
    split: str,
    shots: int,
    queries: CountOrAll | Literal["auto"],
    on_small_class: str = "error",
) -> CountOrAll:
    """The number of query images per class: for `auto`, 15, or as many as the smallest class has after the shots."""
    if queries != "auto":
        return queries
    if on_small_class == "skip":
        return USUAL_QUERIES
    smallest = min((len(index) for index in data.by_class(split).values()), default=0)
    return max(1, min(USUAL_QUERIES, smallest - shots))


def split_episodes(
    data: LabeledImages,
    split: str,
    ways: CountOrAll,
    shots: int,
    queries: CountOrAll,
    episodes: int | Literal["each"],
    seed: int,
    file: Path | None = None,
    on_small_class: Literal["error", "skip"] = "error",
    support_split: str | None = None,
) -> Episodes:
    """Draws the episodes of a split, saves them in `file`, or reads them from it where it exists.

    By `sample_episodes`, `enumerate_supports` (`episodes="each"`) or `sample_cross_split` (with a
    `support_split`: positions are in its bank followed by that of `split`).

    Raises:
        ConfigError: as these, or the file holds other episodes.
        DataError: no such split, or as these and `Episodes.load`.
    """
    fingerprint = f"{data.name} {data.fingerprint} {split}"
    labels, names = data.labels[split_indices(data, split)], data.class_names
    positions, support_labels = torch.arange(len(labels)), labels
    if support_split is not None:
        _check_support_split(split, support_split, episodes, on_small_class)
        support_labels = data.labels[split_indices(data, support_split)]
        fingerprint += f", support from {support_split}"
    elif on_small_class == "skip":
        enough = labels.bincount() >= images_needed(shots, queries)
        positions = enough[labels].nonzero().flatten()
        labels = support_labels = labels[positions]
    each = None
    if episodes == "each":
        each = enumerate_supports(labels, ways, shots, queries, seed, names).reindex(positions)
        episodes = len(each)
    if file is not None and file.exists():
        count = len(np.intersect1d(support_labels.numpy(), labels.numpy())) if ways == "all" else ways
        loaded = _load_episodes(file, fingerprint, (episodes, count, shots), queries)
        if each is not None and not torch.equal(each.support, loaded.support):
            raise ConfigError(f"{file} does not use each image as support in turn; name another file")
        return loaded
    if each is not None:
        sampled = each
    elif support_split is not None:
        sampled = sample_cross_split(support_labels, labels, ways, shots, queries, episodes, seed, names)
    else:
        sampled = sample_episodes(labels, ways, shots, queries, episodes, seed, names).reindex(positions)
    if file is not None:
        sampled.save(file, fingerprint)
    return sampled


def _load_episodes(
    file: Path, fingerprint: str, counts: tuple[int, int, int], queries: CountOrAll
) -> Episodes:
    """The episodes in a file, if their number, ways, shots and queries are those wanted."""
    loaded = Episodes.load(file, fingerprint)
    found = (*loaded.support.shape, loaded.query.shape[2])
    wanted = (*counts, found[3] if queries == "all" else queries)
    if wanted != found:
        raise ConfigError(
            f"{file} holds {found} episodes, ways, shots and queries, not {wanted}; name another file"
        )
    return loaded


def _check_support_split(split: str, support_split: str, episodes: int | str, on_small_class: str) -> None:
    """Raises for options that have no meaning where the support comes from another split."""
    if support_split == split:
        raise ConfigError(f"support_split is the split {split!r} itself; leave it out")
    for name, value, unusable in (("episodes", episodes, "each"), ("on_small_class", on_small_class, "skip")):
        if value == unusable:
            raise ConfigError(
                f"{name}={value} is for support and queries of one split; leave support_split out"
            )
