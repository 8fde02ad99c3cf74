"""Retrieval: images by their captions, and captions by their images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import ModelError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.class_prompts import prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import check_two_classes
from vlfew.evaluation.feature_bank import split_images
from vlfew.evaluation.prompt_templates import NAME
from vlfew.evaluation.results import cluster_ci95, cluster_error, student
from vlfew.similarities.base import cosine_matrix

RECALLS = (1, 5, 10)
CHUNK = 2**24
"""Scores that are looked at together."""


def retrieval(
    context: EvaluationContext, *, split: str = "test", descriptions: Path | None = None
) -> ProtocolResult:
    """Recall at 1, 5 and 10, and the median rank, from text to image and from image to text, by cosine.

    Every text of the split's classes is asked for its images among all of the split, and every image
    for its texts among all of them. A query counts at K when one of its right answers is among the K
    best; its rank is that of the best one, and wrong answers of the same score stand before it. A text
    that several classes have is right for the images of them all.

    The accuracy is the mean of both recalls at 1. Its interval takes the classes as clusters (an image
    and its captions, in `captions`): the linearized variance of the sum of two ratios (Cochran 1977,
    equation 6.13), each query's deviation from the recall of its own direction.

    Args:
        context: the model and the data.
        split: whose images and texts.
        descriptions: JSON file of class name to texts that are used instead of the classes' own.

    Raises:
        DataError: classes are codes, not words; fewer than two classes.
        ModelError: the model has no text stream, or gives NaN or infinity for texts.
    """
    texts, of_text = _texts(context.data, split, descriptions)
    if not context.model.has_text:
        raise ModelError(
            "this model has no text stream (it was trained without words); it cannot read captions"
        )
    words = context.model.encode_texts(texts)
    if not words.isfinite().all():
        raise ModelError(
            "the model gives NaN or infinity for texts; train it again with a lower learning rate"
        )
    bank = context.bank(split)
    classes = context.data.classes(split)
    of_image = torch.searchsorted(classes, bank.labels)
    images = bank.features.embedding

    by_class, text_number = _who_says_what(texts, of_text, len(classes))
    distinct = by_class.shape[1]
    # Both ways a right answer is a pair of a class and a text that it has.
    to_image = _ranks(words, images, lambda part: by_class[:, text_number[part]].T[:, of_image])
    to_text = _ranks(images, words, lambda part: by_class[of_image[part]][:, text_number])

    details: dict[str, Any] = {"images": len(images), "texts": len(texts)}
    if distinct < len(texts):
        details["distinct_texts"] = distinct
    for name, ranks, of in (("text_to_image", to_image, of_text), ("image_to_text", to_text, of_image)):
        total = of.bincount(minlength=len(classes)).tolist()
        for k in RECALLS:
            right = of[ranks <= k].bincount(minlength=len(classes)).tolist()
            details[f"{name}_r{k}"] = sum(right) / len(of)
            details[f"{name}_r{k}_ci95"] = cluster_ci95(right, total)
        details[f"{name}_median_rank"] = float(median(ranks.tolist()))
    accuracy = (details["text_to_image_r1"] + details["image_to_text_r1"]) / 2
    if descriptions is not None:
        details["descriptions"] = str(descriptions)
    details["interval"] = "over classes, as clusters of images and texts"
    ci95 = _mean_ci95([(to_image, of_text), (to_text, of_image)], len(classes))
    return ProtocolResult(accuracy, ci95, len(classes), details)


def check_retrieval(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `retrieval` would, from labels and texts alone."""
    _texts(data, options["split"], options["descriptions"])


def _texts(data: LabeledImages, split: str, descriptions: Path | None) -> tuple[list[str], Tensor]:
    """All texts of the classes of a split, `[T]`, and the place of each one's class among them, `[T]`."""
    split_images(data, split)
    classes = data.classes(split)
    check_two_classes(classes.tolist(), data.class_names)
    of_class = prompts(data, classes, NAME, descriptions)
    counts = torch.tensor([len(texts) for texts in of_class])
    place = torch.arange(len(of_class)).repeat_interleave(counts)
    return [text for texts in of_class for text in texts], place


def _who_says_what(texts: list[str], of_text: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Which class has which distinct text, bool `[C, U]`; and the number of each text among those, `[T]`."""
    number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    numbers = torch.tensor([number[text] for text in texts])
    has = torch.zeros(classes, len(number), dtype=torch.bool)
    has[of_text, numbers] = True
    return has, numbers


@torch.inference_mode()
def _ranks(queries: Tensor, items: Tensor, right: Callable[[Tensor], Tensor]) -> Tensor:
    """Rank `[Q]` from 1 of the best right answer to each query, behind wrong ones of the same score.

    Args:
        queries: `[Q, D]`.
        items: `[S, D]`.
        right: numbers of some queries `[q]` to whether each item is a right answer, bool `[q, S]`.
    """
    device = scoring_device()
    items = items.to(device)
    ranks = []
    for part in torch.arange(len(queries)).split(max(1, CHUNK // len(items))):
        scores = cosine_matrix(queries[part].to(device), items)
        answers = right(part).to(device)
        best = scores.masked_fill(~answers, -math.inf).amax(1, keepdim=True)
        ranks.append(1 + ((scores >= best) & ~answers).sum(1))
    return torch.cat(ranks).cpu()


def _mean_ci95(ways: list[tuple[Tensor, Tensor]], classes: int) -> float:
    """Half width of the 95% interval of the mean of recalls at 1 over the `ways`: ranks and classes `[Q]`."""
    deviation = torch.zeros(classes, dtype=torch.float64)
    for ranks, of in ways:
        hit = (ranks <= 1).double()
        deviation.index_add_(0, of, (hit - hit.mean()) / len(of))
    # The deviations sum to zero: of clusters of one answer each, `cluster_error` is that of their mean.
    ones = [1.0] * classes
    return student(classes - 1) * cluster_error((classes * deviation / len(ways)).tolist(), ones)
