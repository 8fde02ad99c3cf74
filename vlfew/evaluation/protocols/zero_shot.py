"""Classes that are said in words only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vlfew.core.features import Features
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import episode_accuracies, hits, scoring_device
from vlfew.evaluation.class_prompts import class_words, prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import Episodes, check_two_classes
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.evaluation.prompt_templates import Templates, as_list
from vlfew.evaluation.protocols.few_shot import split_episodes
from vlfew.evaluation.results import cluster_ci95, mean_ci95
from vlfew.similarities.base import cosine_matrix

TOP = 5


def zero_shot(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = "all",
    queries: int | Literal["all"] = "all",
    episodes: int = 10_000,
    seed: int = 0,
    templates: Templates = ("{}",),
    descriptions: Path | None = None,
) -> ProtocolResult:
    """Images against the words of classes, by cosine.

    Against all classes of the split: the share of all its images, once each; the interval takes
    the classes as clusters, since images of one class share their words. With N ways: the mean
    over episodes of N classes, each image against the N; interval over episodes.

    Args:
        context: the model and the data.
        split: which classes.
        ways: N classes an episode, at least 2, or `all`.
        queries: with N ways, images a class and episode, or `all` of it.
        episodes: with N ways, how many.
        seed: with N ways, of the draws.
        templates: prompts with `{}` for the name, or names of sets of them (`one`, `seven`, `eighty`);
            each prompt is normalized, then averaged.
        descriptions: JSON file of class name to texts that are used instead of the name.

    Raises:
        DataError: class names are not words; too few classes or images.
        ConfigError: fewer than 2 ways, or a template that has no `{}` and names no set.
        ModelError: the model has no text stream.
    """
    drawn = _draw(context.data, split, ways, queries, episodes, seed)
    classes = context.data.classes(split)
    words = class_words(context, classes, templates, descriptions)
    bank = context.bank(split)
    outcome = (
        _against_all(bank, classes, words)
        if drawn is None
        else _episodes(bank, drawn, classes, words, queries)
    )
    outcome.details["templates"] = as_list(templates)
    if descriptions is not None:
        outcome.details["descriptions"] = str(descriptions)
    return outcome


def check_zero_shot(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `zero_shot` would, from labels and class names alone; draws at most one episode."""
    o = options
    _draw(data, o["split"], o["ways"], o["queries"], min(o["episodes"], 1), o["seed"])
    prompts(data, data.classes(o["split"]), o["templates"], o["descriptions"])


def _draw(
    data: LabeledImages,
    split: str,
    ways: int | Literal["all"],
    queries: int | Literal["all"],
    episodes: int,
    seed: int,
) -> Episodes | None:
    """Episodes without support; None against all classes."""
    if ways != "all":
        return split_episodes(data, split, ways, 0, queries, episodes, seed)
    check_two_classes(data.classes(split).tolist(), data.class_names)
    return None


def _against_all(bank: FeatureBank, classes: Tensor, words: Tensor) -> ProtocolResult:
    target = torch.searchsorted(classes, bank.labels)
    top1, top5 = [], []
    for images, right in zip(bank.features.embedding.split(4096), target.split(4096), strict=True):
        scores = cosine_matrix(images, words)
        top1.append(hits(scores, right))
        top5.append(hits(scores, right, TOP))
    total = target.bincount(minlength=len(classes)).tolist()
    outcome = {}
    for name, hit in (("top1", torch.cat(top1)), ("top5", torch.cat(top5))):
        right_of_class = target[hit].bincount(minlength=len(classes)).tolist()
        outcome[name] = (sum(right_of_class) / len(target), cluster_ci95(right_of_class, total))
    details: dict[str, Any] = {
        "ways": len(classes),
        "images": len(target),
        "interval": "over classes, as clusters of images",
    }
    if len(classes) > TOP:
        details["top5"], details["top5_ci95"] = outcome["top5"]
    return ProtocolResult(*outcome["top1"], len(classes), details)


def _episodes(
    bank: FeatureBank,
    drawn: Episodes,
    classes: Tensor,
    words: Tensor,
    queries: int | Literal["all"],
) -> ProtocolResult:
    ways = drawn.classes.shape[1]
    classes, words = classes.to(scoring_device()), words.to(scoring_device())

    def score(_: Features, images: Features, of: Tensor) -> Tensor:
        return cosine_matrix(images.embedding, words[torch.searchsorted(classes, of)])

    accuracies = episode_accuracies(bank.features, drawn, score)
    accuracy, ci95 = mean_ci95(accuracies.tolist())
    details: dict[str, Any] = {"ways": ways, "queries": queries, "interval": "over episodes"}
    if ways > TOP:
        top5 = episode_accuracies(bank.features, drawn, score, TOP)
        details["top5"], details["top5_ci95"] = mean_ci95(top5.tolist())
    return ProtocolResult(accuracy, ci95, len(drawn), details, accuracies)
