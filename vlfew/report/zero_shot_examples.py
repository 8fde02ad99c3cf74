"""Zero-shot classification by example: random images with the class names most similar to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import VlfewError
from vlfew.core.random import generator_at
from vlfew.evaluation.class_prompts import class_embeddings
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.evaluation.results import Result
from vlfew.report.episodes import RIGHT, WRONG, mark
from vlfew.report.images import bank_thumbnails
from vlfew.similarities.cosine import cosine_matrix

EXAMPLES, TOP = 12, 3


@dataclass(frozen=True)
class ClassEmbeddings:
    """Text embeddings of the classes of a split.

    Attributes:
        classes: `[C]` class numbers, ascending.
        vectors: `[C, D]`.
    """

    classes: Tensor
    vectors: Tensor

    def scores(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        """Cosines `[Q, C]` of the images at `positions [Q]` of the bank."""
        return cosine_matrix(bank.features.embedding[positions], self.vectors)

    def predict(self, bank: FeatureBank) -> Tensor:
        """`[S]` number of the class whose text is most similar to each image of the bank."""
        parts = torch.arange(len(bank)).split(4096)
        return self.classes[torch.cat([self.scores(bank, part).argmax(1) for part in parts])]


def embed_classes(context: EvaluationContext, results: Sequence[Result], split: str) -> ClassEmbeddings | str:
    """The classes of a split by the prompts of the run's zero-shot result; or why there are none."""
    result = next((r for r in results if r.protocol == "zero-shot"), None)
    templates = result.get("templates", ["{}"]) if result else ["{}"]
    descriptions = result.get("descriptions") if result else None
    classes = context.data.classes(split)
    try:
        vectors = class_embeddings(context, classes, templates, Path(descriptions) if descriptions else None)
    except VlfewError as error:
        return str(error)
    return ClassEmbeddings(classes, vectors)


def zero_shot_examples(bank: FeatureBank, texts: ClassEmbeddings | str, seed: int) -> dict[str, Any] | str:
    """Random images with the class names that score highest."""
    if isinstance(texts, str):
        return f"No zero-shot classification: {texts}."
    drawn = generator_at(seed, "report", "names").permutation(len(bank))[:EXAMPLES]
    positions = torch.from_numpy(drawn).sort().values
    scores = texts.scores(bank, positions)
    true = torch.searchsorted(texts.classes, bank.labels[positions])
    ranks = ((scores > scores.gather(1, true.unsqueeze(1))).sum(1) + 1).tolist()
    top = scores.topk(min(TOP, scores.shape[1]), dim=1).indices
    names = [bank.data.class_names[c] for c in texts.classes.tolist()]
    images = bank_thumbnails(bank, positions, [names[n] for n in true.tolist()])
    cards = []
    for number, (image, best, own) in enumerate(zip(images, top.tolist(), true.tolist(), strict=True)):
        shown = [
            {
                "text": names[n],
                "score": float(scores[number, n]),
                "true": n == own,
                "mark": (RIGHT if n == best[0] else f"#{ranks[number]:,}")
                if n == own
                else WRONG * (n == best[0]),
            }
            for n in dict.fromkeys([*best, own])
        ]
        cards.append({"image": image, "names": shown, **mark(best[0] == own)})
    right = int((top[:, 0] == true).sum())
    return {"cards": cards, "right": right, "classes": len(names), "split": bank.split, "seed": seed}
