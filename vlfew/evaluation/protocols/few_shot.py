"""N-way K-shot classification of episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features
from vlfew.evaluation.accuracy import LogitsFunction, episode_accuracies, scoring_device
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import Episodes, images_needed
from vlfew.evaluation.split_episodes import choose_queries, split_episodes


def few_shot(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = 5,
    shots: int = 1,
    queries: int | Literal["all", "auto"] = "auto",
    episodes: int | Literal["each"] = 10_000,
    seed: int = 0,
    method: str = "default",
    episodes_file: Path | None = None,
    on_small_class: Literal["error", "skip"] = "error",
    support_split: str | None = None,
) -> ProtocolResult:
    """Accuracy of N-way K-shot episodes: the mean over episodes, with its interval over episodes.

    Args:
        context: the model and the data.
        split: the split whose classes are evaluated.
        ways: N, classes per episode, at least 2, or `all`.
        shots: K, support images per class.
        queries: query images per class, or `all` that are left; `auto` is 15, or as many as the smallest class has
            left; always 15 with `skip`.
        episodes: number of episodes; `each` makes every image the support of its class once (one shot, all ways).
        seed: of the random draws.
        method: few-shot method by name; `default` is the one the model was trained for.
        episodes_file: file to save the episodes in, or to read them from where it exists.
        on_small_class: `skip` leaves out classes with fewer images than shots and queries; `error` stops.
        support_split: draw the support from this split instead, for data that are split by image.

    Raises:
        DataError: too few classes or images, named.
        ConfigError: fewer than 2 ways or 1 shot; `each` with more shots or fewer ways; a file with other
            episodes; a method that needs text; a support_split with `each` or `skip`, or the split itself;
            a transductive method where classes have unequal numbers of queries.
    """
    check_shots(shots)
    check_method(method)
    queries = choose_queries(context.data, split, 0 if support_split else shots, queries, on_small_class)
    sampled = split_episodes(
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
    few_shot_method = context.model.few_shot_method(method)
    if few_shot_method.transductive and bool((sampled.query < 0).any()):
        raise ConfigError(
            f"method {method} learns from all queries of an episode, and classes of {split!r} have fewer "
            "images left than others; give a number of queries"
        )
    features = context.bank(split).features
    if support_split is not None:
        features = Features.cat([context.bank(support_split).features, features])
    details = {
        "ways": sampled.classes.shape[1],
        "shots": shots,
        "queries": queries,
        "method": method,
        "interval": "over episodes" + (", each image in turn the support" if episodes == "each" else ""),
    }
    if support_split is not None:
        details["support_split"] = support_split
    if few_shot_method.transductive:
        details["transductive"] = True
    if on_small_class == "skip":
        least = images_needed(shots, queries)
        details["skipped_classes"] = sum(len(i) < least for i in context.data.by_class(split).values())
    return ProtocolResult.over_episodes(method_accuracies(few_shot_method, features, sampled), details)


def method_accuracies(method: FewShotMethod, features: Features, episodes: Episodes) -> np.ndarray:
    """Accuracies `[E]` of a method that is fitted to the support images of each episode."""
    _, ways, shots = episodes.support.shape
    return episode_accuracies(features, episodes, episode_logits(method, ways, shots), maps=method.needs_map)


def episode_logits(method: FewShotMethod, ways: int, shots: int) -> LogitsFunction:
    """A function that fits a method to the support images of some episodes and scores their queries."""
    method = method.to(scoring_device())
    class_id = torch.arange(ways, device=scoring_device()).repeat_interleave(shots)

    def logits_of(support: Features, queries: Features, classes: Tensor) -> Tensor:
        return method.fit(SupportSet(support, class_id, ways)).logits(queries)

    return logits_of


def check_shots(shots: int) -> None:
    """Raises ConfigError for a support set without images."""
    if shots < 1:
        raise ConfigError(f"shots is {shots}; it must be at least 1 (the zero-shot protocol needs no images)")


def check_method(name: str, protocol: str | None = None) -> None:
    """Raises for a few-shot method that does not exist or cannot be used with images alone.

    Args:
        name: of the method.
        protocol: name of a protocol that scores one image at a time, without an episode's other queries.

    Raises:
        VlfewError: no such method.
        ConfigError: it needs text, or all queries of an episode where there are none.
    """
    if name == "default":
        return
    method = CLASSIFIERS.get(name)
    if getattr(method, "needs_text", False):
        raise ConfigError(
            f"method {name} needs text, and this protocol has support images alone; "
            f"methods without text: {', '.join(CLASSIFIERS.image_only())}"
        )
    if getattr(method, "transductive", False) and protocol is not None:
        raise ConfigError(
            f"method {name} learns from all queries of an episode, and {protocol} scores one image at a "
            "time; use another method"
        )
