"""Classification by text: class names in prompts, or descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from vlfew.core.features import Features
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import episode_accuracies, scoring_device, topk_correct
from vlfew.evaluation.class_prompts import class_embeddings
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import CountOrAll, Episodes, check_two_classes
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.evaluation.prompt_templates import ValidTemplates, as_list
from vlfew.evaluation.split_episodes import split_episodes
from vlfew.evaluation.statistics import cluster_ci95, mean_ci95
from vlfew.similarities.cosine import cosine_matrix

TOP = 5


def zero_shot(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = "all",
    queries: int | Literal["all"] = "all",
    episodes: int = 10_000,
    seed: int = 0,
    templates: Annotated[str | tuple[str, ...], ValidTemplates] = ("{}",),
    descriptions: Path | None = None,
) -> ProtocolResult:
    """Accuracy of images classified by the text embeddings of the classes, by cosine similarity.

    Against all classes of the split: the share of its images, each scored once; the interval takes
    the classes as clusters, since images of one class share their text. With N ways: the mean
    over episodes of N classes, with its interval over episodes.

    Args:
        context: the model and the data.
        split: the split whose classes are evaluated.
        ways: N, classes per episode, at least 2; `all` scores every image once against all classes.
        queries: with N ways, images per class and episode, or `all` of the class.
        episodes: with N ways, the number of episodes.
        seed: of the random draws, with N ways.
        templates: prompts with `{}` for the class name, or sets of them (`one`, `seven`, `eighty`), averaged.
        descriptions: JSON file of class name to texts, used instead of prompts.

    Raises:
        DataError: class names are codes; too few classes or images.
        ConfigError: fewer than 2 ways, or a template that has no `{}` and names no set.
        ModelError: the model has no text encoder.
    """
    data = context.data
    drawn, classes = draw_queries(data, split, ways, queries, episodes, seed), data.classes(split)
    texts = class_embeddings(context, classes, templates, descriptions)
    result = classify_by_text(context.bank(split), drawn, classes, texts)
    if drawn is not None:
        result.details["queries"] = queries
    result.details["templates"] = as_list(templates)
    if descriptions is not None:
        result.details["descriptions"] = str(descriptions)
    return result


def draw_queries(
    data: LabeledImages, split: str, ways: CountOrAll, queries: CountOrAll, episodes: int, seed: int
) -> Episodes | None:
    """Episodes without support images; None for `ways="all"`, where every image is a query once."""
    if ways != "all":
        return split_episodes(data, split, ways, 0, queries, episodes, seed)
    check_two_classes(data.classes(split).tolist(), data.class_names)
    return None


def classify_by_text(
    bank: FeatureBank, drawn: Episodes | None, classes: Tensor, texts: Tensor
) -> ProtocolResult:
    """Accuracy of the images of a bank by their cosine similarity to text embeddings.

    Args:
        bank: of a split.
        drawn: episodes in it, or None to score every image once against all classes.
        classes: `[C]` class numbers of the split.
        texts: `[C, D]` of the classes.
    """
    if drawn is None:
        return _score_once(bank, classes, texts)
    return _score_episodes(bank, drawn, classes, texts)


def _score_once(bank: FeatureBank, classes: Tensor, texts: Tensor) -> ProtocolResult:
    target = torch.searchsorted(classes, bank.labels)
    correct: dict[int, list[Tensor]] = {1: [], TOP: []}
    for images, labels in zip(bank.features.embedding.split(4096), target.split(4096), strict=True):
        logits = cosine_matrix(images, texts)
        for k, parts in correct.items():
            parts.append(topk_correct(logits, labels, k))
    total = target.bincount(minlength=len(classes)).tolist()

    right = {
        k: target[torch.cat(parts)].bincount(minlength=len(classes)).tolist() for k, parts in correct.items()
    }

    def accuracy(k: int) -> tuple[float, float | None]:
        return sum(right[k]) / len(target), cluster_ci95(right[k], total)

    details: dict[str, Any] = {
        "ways": len(classes),
        "images": len(target),
        "interval": "over classes, as clusters of images",
    }
    if len(classes) > TOP:
        details["top5"], details["top5_ci95"] = accuracy(TOP)
    return ProtocolResult(*accuracy(1), len(classes), details, per_class=(right[1], total))


def _score_episodes(bank: FeatureBank, drawn: Episodes, classes: Tensor, texts: Tensor) -> ProtocolResult:
    ways = drawn.classes.shape[1]
    classes, texts = classes.to(scoring_device()), texts.to(scoring_device())

    def logits_of(_: Features, images: Features, of: Tensor) -> Tensor:
        return cosine_matrix(images.embedding, texts[torch.searchsorted(classes, of)])

    accuracies = episode_accuracies(bank.features, drawn, logits_of)
    details: dict[str, Any] = {"ways": ways, "interval": "over episodes"}
    if ways > TOP:
        top5 = episode_accuracies(bank.features, drawn, logits_of, TOP)
        details["top5"], details["top5_ci95"] = mean_ci95(top5.tolist())
    return ProtocolResult.over_episodes(accuracies, details)
