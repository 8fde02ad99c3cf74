"""Random few-shot episodes: the support image of each class and how the queries were classified."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlfew.classifiers.support import SupportSet
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.episodes import Episodes, sample_episodes
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.report.images import bank_thumbnails

EPISODES, WAYS, QUERIES = 3, 5, 4
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
RIGHT, WRONG = "✓", "✗"


def mark(correct: bool, text: str = "") -> dict[str, str]:
    """Sign and style of a tile."""
    return {"mark": f"{RIGHT if correct else WRONG} {text}".strip(), "style": "right" if correct else "wrong"}


def one_shot_episodes(bank: FeatureBank, ways: int | None, episodes: int, seed: int) -> Episodes | None:
    """Episodes with one support image for each class and all its others as queries.

    Args:
        bank: of the images; positions are in it.
        ways: classes of an episode, fewer where there are not enough; None takes every class.
        episodes: how many.
        seed: of the sample.

    Returns:
        None unless two classes have two images. Classes with a single image take no part.
    """
    _, which, counts = bank.labels.unique(return_inverse=True, return_counts=True)
    usable = (counts[which] >= 2).nonzero().flatten()
    classes = int((counts >= 2).sum())
    if classes < 2:
        return None
    n = min(ways, classes) if ways else classes
    drawn = sample_episodes(bank.labels[usable], n, 1, "all", episodes, seed)
    query = torch.where(drawn.query < 0, -1, usable[drawn.query.clamp(min=0)])
    return Episodes(usable[drawn.support], query, drawn.classes)


def classify_one_shot(
    context: EvaluationContext, bank: FeatureBank, support: Tensor, queries: Tensor
) -> Tensor:
    """Index of the predicted class of each query.

    Args:
        context: of the model.
        bank: of the features.
        support: `[N]` positions in the bank, one for each class.
        queries: `[Q]` positions in the bank.

    Returns:
        `[Q]` int64 in `0..N-1`.
    """
    items = SupportSet(bank.features[support], torch.arange(len(support)), len(support))
    method = context.model.few_shot_method().fit(items)
    # A similarity may hold the differences of all pairs.
    chunk = max(1, 2**24 // (len(support) * bank.features.embedding.shape[1]))
    return torch.cat([method.logits(bank.features[part]).argmax(-1) for part in queries.split(chunk)])


def episode_sheets(context: EvaluationContext, bank: FeatureBank, seed: int) -> dict[str, Any] | str:
    """A few random episodes with right and wrong predictions marked."""
    episodes = one_shot_episodes(bank, WAYS, EPISODES, seed)
    if episodes is None:
        return "No episodes: the split needs two classes with two images each."
    sheets, right, total = [], 0, 0
    for number in range(len(episodes)):
        support, query = episodes.support[number, :, 0], episodes.query[number, :, :QUERIES]
        present = query >= 0
        predicted = torch.full_like(query, -1)
        predicted[present] = classify_one_shot(context, bank, support, query[present])
        hits = int((predicted == torch.arange(len(query)).unsqueeze(1))[present].sum())
        right, total = right + hits, total + int(present.sum())
        rows = _rows(bank, support, query, predicted)
        sheets.append(
            {"title": f"Episode {number + 1}: {hits} of {int(present.sum())} correct", "rows": rows}
        )
    ways = episodes.classes.shape[1]
    return {"sheets": sheets, "ways": ways, "split": bank.split, "seed": seed, "right": right, "total": total}


def _rows(bank: FeatureBank, support: Tensor, query: Tensor, predicted: Tensor) -> list[dict[str, Any]]:
    """One episode: `support [N]`, `query [N, Q]`, and `predicted [N, Q]` as index of a class; -1 for none."""
    names = [bank.data.class_names[c] for c in bank.labels[support].tolist()]
    rows = []
    for n, name in enumerate(names):
        answers = [p for p in predicted[n].tolist() if p >= 0]
        titles = [name if p == n else f"{name}, predicted {LETTERS[p]}: {names[p]}" for p in answers]
        images = bank_thumbnails(bank, query[n][query[n] >= 0], titles)
        queries = [
            {"image": image, **mark(p == n, "" if p == n else LETTERS[p])}
            for image, p in zip(images, answers, strict=True)
        ]
        (shown,) = bank_thumbnails(bank, support[n : n + 1], [f"support of {name}"])
        rows.append({"letter": LETTERS[n], "name": name, "support": shown, "queries": queries})
    return rows
