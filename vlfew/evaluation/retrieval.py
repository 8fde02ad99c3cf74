"""Retrieval: pictures by their captions, and captions by their pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vlfew.data.images import LabelledImages
from vlfew.errors import ModelError
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.bank import split_pictures
from vlfew.evaluation.episodes import require_two_classes
from vlfew.evaluation.results import cluster_ci95, cluster_error, student
from vlfew.evaluation.subject import Outcome, Subject
from vlfew.evaluation.templates import NAME
from vlfew.evaluation.words import prompts
from vlfew.scorers.similarity import cosine_matrix

RECALLS = (1, 5, 10)
CHUNK = 2**24
"""Scores that are looked at together."""


def retrieval(subject: Subject, *, split: str = "test", descriptions: Path | None = None) -> Outcome:
    """Recall at 1, 5 and 10, and the median rank, from text to picture and from picture to text, by cosine.

    Every text of the split's classes is asked for its pictures among all of the split, and every picture
    for its texts among all of them. A query counts at K when one of its right answers is among the K
    best; its rank is that of the best one, and wrong answers of the same score stand before it. A text
    that several classes have is right for the pictures of them all.

    The accuracy is the mean of both recalls at 1. Its interval takes the classes as clusters (a picture
    and its captions, in `captions`): the linearised variance of the sum of two ratios (Cochran 1977,
    equation 6.13), each query's deviation from the recall of its own direction.

    Args:
        subject: the model and the data.
        split: whose pictures and texts.
        descriptions: JSON file of class name to texts that are used instead of the classes' own.

    Raises:
        DataError: classes are codes, not words; fewer than two classes.
        ModelError: the model has no text stream, or gives NaN or infinity for texts.
    """
    texts, of_text = _texts(subject.data, split, descriptions)
    if not subject.model.has_text:
        raise ModelError(
            "this model has no text stream (it was trained without words); it cannot read captions"
        )
    words = subject.model.encode_texts(texts)
    if not words.isfinite().all():
        raise ModelError(
            "the model gives NaN or infinity for texts; train it again with a lower learning rate"
        )
    bank = subject.bank(split)
    classes = subject.data.classes(split)
    of_picture = torch.searchsorted(classes, bank.labels)
    pictures = bank.features.embedding

    by_class, text_number = _who_says_what(texts, of_text, len(classes))
    distinct = by_class.shape[1]
    # Both ways a right answer is a pair of a class and a text that it has.
    to_picture = _ranks(words, pictures, lambda part: by_class[:, text_number[part]].T[:, of_picture])
    to_text = _ranks(pictures, words, lambda part: by_class[of_picture[part]][:, text_number])

    details: dict[str, Any] = {"pictures": len(pictures), "texts": len(texts)}
    if distinct < len(texts):
        details["distinct_texts"] = distinct
    for name, ranks, of in (("text_to_image", to_picture, of_text), ("image_to_text", to_text, of_picture)):
        total = of.bincount(minlength=len(classes)).tolist()
        for k in RECALLS:
            right = of[ranks <= k].bincount(minlength=len(classes)).tolist()
            details[f"{name}_r{k}"] = sum(right) / len(of)
            details[f"{name}_r{k}_ci95"] = cluster_ci95(right, total)
        details[f"{name}_median_rank"] = float(median(ranks.tolist()))
    accuracy = (details["text_to_image_r1"] + details["image_to_text_r1"]) / 2
    if descriptions is not None:
        details["descriptions"] = str(descriptions)
    details["interval"] = "over classes, as clusters of pictures and texts"
    ci95 = _mean_ci95([(to_picture, of_text), (to_text, of_picture)], len(classes))
    return Outcome(accuracy, ci95, len(classes), details)


def check_retrieval(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `retrieval` would, from labels and texts alone."""
    _texts(data, options["split"], options["descriptions"])


def _texts(data: LabelledImages, split: str, descriptions: Path | None) -> tuple[list[str], Tensor]:
    """All texts of the classes of a split, `[T]`, and the place of each one's class among them, `[T]`."""
    split_pictures(data, split)
    classes = data.classes(split)
    require_two_classes(classes.tolist(), data.class_names)
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
