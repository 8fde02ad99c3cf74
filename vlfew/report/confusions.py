"""The classes that are confused most often."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.report.episodes import classify_one_shot, one_shot_episodes
from vlfew.report.images import bank_thumbnails
from vlfew.report.zero_shot_examples import ClassEmbeddings

PAIRS = 10
"""Most confusions that are listed."""


def confusion_tables(
    context: EvaluationContext, bank: FeatureBank, texts: ClassEmbeddings | str, seed: int
) -> dict[str, Any] | str:
    """Pairs of classes: by one support image each, and by text where there is any."""
    tables = []
    episodes = one_shot_episodes(bank, None, 1, seed)
    if episodes is not None:
        support, queries = episodes.support[0, :, 0], episodes.query[episodes.query >= 0]
        predicted = episodes.classes[0][classify_one_shot(context, bank, support, queries)]
        tables.append(_table(bank, "One-shot: one support image per class", queries, predicted))
    if isinstance(texts, ClassEmbeddings):
        tables.append(_table(bank, "Zero-shot: class texts", torch.arange(len(bank)), texts.predict(bank)))
    if not tables:
        return "No confusions: the split needs two classes with two images each, or text."
    return {"tables": tables, "split": bank.split, "seed": seed}


def pair_counts(true: Tensor, predicted: Tensor) -> list[tuple[int, int, int]]:
    """`(true, predicted, count)` of wrong predictions, most frequent first, then by class number."""
    wrong = predicted != true
    pairs, counts = torch.stack([true[wrong], predicted[wrong]], 1).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    return [(a, b, n) for (a, b), n in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)]


def _table(bank: FeatureBank, title: str, positions: Tensor, predicted: Tensor) -> dict[str, Any]:
    """Args: `positions [Q]` in the bank, and `predicted [Q]` class numbers."""
    names, true = bank.data.class_names, bank.labels[positions]
    totals = true.bincount(minlength=len(names))
    rows = []
    for a, b, count in pair_counts(true, predicted)[:PAIRS]:
        example = int(positions[((true == a) & (predicted == b)).nonzero()[0, 0]])
        other = int((bank.labels == b).nonzero()[0, 0])
        images = bank_thumbnails(bank, [example, other], [names[a], names[b]])
        rows.append({"images": images, "count": count, "total": int(totals[a])})
    right, classes = int((predicted == true).sum()), len(true.unique())
    return {"title": title, "rows": rows, "right": right, "images": len(true), "classes": classes}
