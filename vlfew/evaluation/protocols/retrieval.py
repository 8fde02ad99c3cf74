"""Retrieval: images by their captions, and captions by their images."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import ModelError
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.class_prompts import class_prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import check_two_classes
from vlfew.evaluation.feature_bank import split_indices
from vlfew.evaluation.prompt_templates import CLASS_NAME
from vlfew.evaluation.statistics import cluster_ci95
from vlfew.similarities.cosine import cosine_matrix

RECALLS = (1, 5, 10)
CHUNK = 2**24
"""Similarities that are computed at a time."""


def retrieval(
    context: EvaluationContext, *, split: str = "test", descriptions: Path | None = None
) -> ProtocolResult:
    """Recall at 1, 5 and 10, and the median rank, from text to image and from image to text, by cosine.

    Every text of the split's classes is a query among all images of the split, and every image
    a query among all texts. A query counts at K when one of its correct answers is among the K
    best; its rank is that of the best one, behind wrong answers of the same similarity. A text
    that several classes have is correct for the images of all of them.

    The accuracy is the mean of both recalls at 1. Its interval takes the classes as clusters (an image
    and its captions, in `captions`): the linearized variance of the sum of two ratios (Cochran 1977,
    equation 6.13), with each query's deviation from the recall of its own direction.

    Args:
        context: the model and the data.
        split: the split whose images and texts are evaluated.
        descriptions: JSON file of class name to texts, used instead of the classes' own.

    Raises:
        DataError: class names are codes; fewer than two classes.
        ModelError: the model has no text encoder, or gives NaN or infinity for texts.
    """
    data = context.data
    split_indices(data, split)
    classes = data.classes(split)
    check_two_classes(classes.tolist(), data.class_names)
    texts_of_class = class_prompts(data, classes, CLASS_NAME, descriptions)
    texts = [text for of_class in texts_of_class for text in of_class]
    if not context.model.has_text:
        raise ModelError(
            "this model has no text encoder (it was trained without text); it cannot encode captions"
        )
    text_embeddings = context.model.encode_text(texts).cpu()
    if not text_embeddings.isfinite().all():
        raise ModelError(
            "the model gives NaN or infinity for texts; train it again with a lower learning rate"
        )
    bank = context.bank(split)
    images = bank.features.embedding
    class_of_image = torch.searchsorted(classes, bank.labels)
    class_of_text = torch.arange(len(classes)).repeat_interleave(
        torch.tensor([len(t) for t in texts_of_class])
    )

    # A pair of an image and a text is correct when the image's class has that text: bool [C, distinct texts].
    distinct = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    number_of_text = torch.tensor([distinct[text] for text in texts])
    has_text = torch.zeros(len(classes), len(distinct), dtype=torch.bool)
    has_text[class_of_text, number_of_text] = True
    to_image = _ranks(
        text_embeddings, images, lambda part: has_text[:, number_of_text[part]].T[:, class_of_image]
    )
    to_text = _ranks(images, text_embeddings, lambda part: has_text[class_of_image[part]][:, number_of_text])

    directions = {"text_to_image": (to_image, class_of_text), "image_to_text": (to_text, class_of_image)}
    details: dict[str, Any] = {"images": len(images), "texts": len(texts)}
    if len(distinct) < len(texts):
        details["distinct_texts"] = len(distinct)
    for name, (ranks, class_of_query) in directions.items():
        total = class_of_query.bincount(minlength=len(classes)).tolist()
        for k in RECALLS:
            correct = class_of_query[ranks <= k].bincount(minlength=len(classes)).tolist()
            details[f"{name}_r{k}"] = sum(correct) / len(class_of_query)
            details[f"{name}_r{k}_ci95"] = cluster_ci95(correct, total)
        details[f"{name}_median_rank"] = float(median(ranks.tolist()))
    if descriptions is not None:
        details["descriptions"] = str(descriptions)
    details["interval"] = "over classes, as clusters of images and texts"
    accuracy = (details["text_to_image_r1"] + details["image_to_text_r1"]) / 2
    ci95 = _mean_recall_ci95(list(directions.values()), len(classes))
    return ProtocolResult(accuracy, ci95, len(classes), details)


@torch.inference_mode()
def _ranks(queries: Tensor, items: Tensor, is_correct: Callable[[Tensor], Tensor]) -> Tensor:
    """Rank `[Q]` from 1 of the best correct item for each query, behind wrong ones of the same similarity.

    Args:
        queries: `[Q, D]`.
        items: `[S, D]`.
        is_correct: numbers of some queries `[q]` to whether each item is correct for them, bool `[q, S]`.
    """
    device = scoring_device()
    items = items.to(device)
    ranks = []
    for part in torch.arange(len(queries)).split(max(1, CHUNK // len(items))):
        similarities = cosine_matrix(queries[part].to(device), items)
        correct = is_correct(part).to(device)
        best = similarities.masked_fill(~correct, -math.inf).amax(1, keepdim=True)
        ranks.append(1 + ((similarities >= best) & ~correct).sum(1))
    return torch.cat(ranks).cpu()


def _mean_recall_ci95(directions: list[tuple[Tensor, Tensor]], classes: int) -> float | None:
    """Half width of the 95% interval of the mean recall at 1 over directions: ranks and classes, `[Q]` each."""
    deviation = torch.zeros(classes, dtype=torch.float64)
    for ranks, class_of_query in directions:
        hit = (ranks <= 1).double()
        deviation.index_add_(0, class_of_query, (hit - hit.mean()) / len(ranks))
    # The deviations sum to zero: for clusters of one query each, `cluster_ci95` is that of their mean.
    return cluster_ci95((classes * deviation / len(directions)).tolist(), [1.0] * classes)
