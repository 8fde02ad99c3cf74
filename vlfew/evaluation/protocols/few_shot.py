"""N-way K-shot episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.adapter import without_words
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import Support
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import Score, episode_accuracies, scoring_device
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import Episodes, enumerate_supports, sample_cross_split, sample_episodes
from vlfew.evaluation.feature_bank import split_images
from vlfew.evaluation.results import mean_ci95


def split_episodes(
    data: LabeledImages,
    split: str,
    ways: int | Literal["all"],
    shots: int,
    queries: int | Literal["all"],
    episodes: int | Literal["each"],
    seed: int,
    file: Path | None = None,
    on_small_class: Literal["error", "skip"] = "error",
    support_split: str | None = None,
) -> Episodes:
    """`sample_episodes` (or `enumerate_supports`) from a split; kept in `file`, or read from it when there.

    With `on_small_class="skip"`, from those of its classes alone that have images enough. With a
    `support_split`, `sample_cross_split` from both: positions are in its bank and then in that of `split`.

    Raises:
        ConfigError: as these, or the file holds other episodes than were asked for.
        DataError: no such split, or as these and `Episodes.load`.
    """
    drawn_from = f"{data.name} {data.fingerprint} {split}"
    if support_split is not None:
        _check_apart(split, support_split, episodes, on_small_class)
        assert episodes != "each"
        first, second = (data.labels[split_images(data, name)] for name in (support_split, split))
        drawn_from += f", support from {support_split}"
        if file is not None and file.exists():
            both = np.intersect1d(first.numpy(), second.numpy())
            return _kept(file, drawn_from, (episodes, len(both) if ways == "all" else ways, shots), queries)
        apart = sample_cross_split(first, second, ways, shots, queries, episodes, seed, data.class_names)
        if file is not None:
            apart.save(file, drawn_from)
        return apart
    labels = data.labels[split_images(data, split)]
    places = torch.arange(len(labels))
    if on_small_class == "skip":
        enough = labels.bincount() >= shots + (1 if queries == "all" else queries)
        places = enough[labels].nonzero().flatten()
        labels = labels[places]
    each = None
    if episodes == "each":
        each = enumerate_supports(labels, ways, shots, queries, seed, data.class_names).among(places)
        episodes = len(each)
    if file is not None and file.exists():
        n = len(labels.unique()) if ways == "all" else ways
        kept = _kept(file, drawn_from, (episodes, n, shots), queries)
        if each is not None and not torch.equal(each.support, kept.support):
            raise ConfigError(f"{file} does not hold each image in turn as the support; name another file")
        return kept
    drawn = each
    if drawn is None:
        drawn = sample_episodes(labels, ways, shots, queries, episodes, seed, data.class_names).among(places)
    if file is not None:
        drawn.save(file, drawn_from)
    return drawn


def _kept(
    file: Path, drawn_from: str, asked: tuple[int, int, int], queries: int | Literal["all"]
) -> Episodes:
    """The episodes in a file, held to being those that are asked for: so many, their ways and shots."""
    kept = Episodes.load(file, drawn_from)
    held = (*kept.support.shape, kept.query.shape[2])
    wanted = (*asked, kept.query.shape[2] if queries == "all" else queries)
    if wanted != held:
        raise ConfigError(
            f"{file} holds {held} episodes, ways, shots and queries, not {wanted}; name another file"
        )
    return kept


def _check_apart(split: str, support_split: str, episodes: int | str, on_small_class: str) -> None:
    """Refuses what has no meaning where the support comes from another split."""
    if support_split == split:
        raise ConfigError(f"support_split is the split {split!r} itself; leave it out")
    for name, value, default in (("episodes", episodes, "each"), ("on_small_class", on_small_class, "skip")):
        if value == default:
            raise ConfigError(
                f"{name}={value} is for support and queries of one split; leave support_split out"
            )


def check_shots(shots: int) -> None:
    """Refuses a support without images.

    Raises:
        ConfigError: fewer than one shot.
    """
    if shots < 1:
        raise ConfigError(f"shots is {shots}; it must be at least 1 (the zero-shot protocol goes by words)")


def from_images(method: FewShotMethod, ways: int, shots: int) -> Score:
    """Scores episodes whose support is `shots` images a class, side by side."""
    method = method.to(scoring_device())
    class_id = torch.arange(ways, device=scoring_device()).repeat_interleave(shots)

    def score(support: Features, queries: Features, classes: Tensor) -> Tensor:
        return method.fit(Support(support, class_id, ways)).score(queries)

    return score


def few_shot(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = 5,
    shots: int = 1,
    queries: int | Literal["all"] = 15,
    episodes: int | Literal["each"] = 10_000,
    seed: int = 0,
    method: str = "default",
    episodes_file: Path | None = None,
    on_small_class: Literal["error", "skip"] = "error",
    support_split: str | None = None,
) -> ProtocolResult:
    """Mean over episodes of the share of queries that get their class; interval over episodes.

    Args:
        context: the model and the data.
        split: which classes.
        ways: N classes an episode, at least 2, or `all`.
        shots: K support images a class.
        queries: query images a class, or `all` that are left.
        episodes: how many; or `each`: with one shot and all classes, every image in turn is the
            support of its class (in as many episodes as the smallest class has images).
        seed: of the draws.
        method: by name; `default` is what the model was trained for.
        episodes_file: the episodes are kept here, or taken from here when it is there.
        on_small_class: what is done about classes with fewer images than shots and queries; how many were
            left out is said in the result.
        support_split: the support is drawn from this split, among the classes that it shares with
            `split`: where splits part the images, training images can be the support.

    Raises:
        DataError: too few classes or images, named.
        ConfigError: fewer than 2 ways or 1 shot, `each` with more shots or fewer ways, episodes_file
            holds other episodes, a scorer that needs words, a support_split with `each` or `skip`, or
            that is `split` itself, or a transductive scorer where classes have unequal numbers of queries.
    """
    check_shots(shots)
    check_scorer(method)
    drawn = split_episodes(
        context.data,
        split,
        ways,
        shots,
        queries,
        episodes,
        seed,
        episodes_file,
        on_small_class,
        support_split,
    )
    n = drawn.classes.shape[1]
    chosen = context.model.method(method)
    if chosen.transductive and bool((drawn.query < 0).any()):
        raise ConfigError(
            f"scorer {method} learns from all queries of an episode, and classes of {split!r} have fewer "
            "images left than others; give a number of queries"
        )
    score = from_images(chosen, n, shots)
    features = context.bank(split).features
    if support_split is not None:
        features = Features.cat([context.bank(support_split).features, features])
    accuracies = episode_accuracies(features, drawn, score, maps=chosen.needs_map)
    accuracy, ci95 = mean_ci95(accuracies.tolist())
    details = {
        "ways": n,
        "shots": shots,
        "queries": queries,
        "method": method,
        "interval": "over episodes" + (", each image in turn the support" if episodes == "each" else ""),
    }
    if support_split is not None:
        details["support_split"] = support_split
    if chosen.transductive:
        details["transductive"] = True
    if on_small_class == "skip":
        need = shots + (1 if queries == "all" else queries)
        sizes = [len(index) for index in context.data.by_class(split).values()]
        details["classes_left_out"] = sum(size < need for size in sizes)
    return ProtocolResult(accuracy, ci95, len(drawn), details, accuracies)


def check_few_shot(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `few_shot` would, from the labels alone; draws one episode, or each."""
    o, file = options, options["episodes_file"]
    check_shots(o["shots"])
    check_scorer(o.get("method", "default"))
    count, kept = o["episodes"], file if file is not None and file.exists() else None
    if kept is None and count != "each":
        count = min(count, 1)
    split_episodes(
        data,
        o["split"],
        o["ways"],
        o["shots"],
        o["queries"],
        count,
        o["seed"],
        kept,
        o.get("on_small_class", "error"),
        o.get("support_split"),
    )


def check_scorer(name: str, single: str | None = None) -> None:
    """Refuses a scorer that no model has, or that does not answer what is asked of images alone.

    Args:
        name: of the scorer.
        single: the protocol, where it asks about one image at a time.

    Raises:
        VlfewError: no such scorer.
        ConfigError: it needs words, or it learns from all queries of an episode, and there are none.
    """
    if name == "default":
        return
    method = CLASSIFIERS.get(name)
    if getattr(method, "needs_text", False):
        raise ConfigError(
            f"scorer {name} needs words, and this protocol says classes in images alone; "
            f"these go without: {', '.join(without_words())}"
        )
    if getattr(method, "transductive", False) and single is not None:
        raise ConfigError(
            f"scorer {name} learns from all queries of an episode, and {single} asks about one image at a "
            "time; take another scorer"
        )
