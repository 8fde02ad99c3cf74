"""Pairs of images with their distances and thresholds: random ones, and the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfew.core.errors import VlfewError
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.protocols.verification import ScoredPairs, score_pairs
from vlfew.evaluation.results import Result
from vlfew.report.episodes import mark
from vlfew.report.formatting import percent
from vlfew.report.images import pair_thumbnails
from vlfew.similarities.base import Similarity
from vlfew.similarities.cosine import Cosine
from vlfew.similarities.euclidean import Euclidean

SHOWN = 12
"""Pairs of each kind on the sheet."""
DRAWN = 2000
"""Pairs sampled to choose the thresholds where the run was not evaluated on verification."""


@dataclass(frozen=True)
class Scale:
    """How a score is shown.

    Attributes:
        name: of the values.
        of: the value of a score.
    """

    name: str
    of: Callable[[float], float]


def scale_of(similarity: Similarity) -> Scale:
    """Distances where the similarity has them, else its scores."""
    if isinstance(similarity, Cosine):
        # |a - b|^2 = 2 - 2 cos for vectors of length 1.
        return Scale("the distance of their unit vectors", lambda score: math.sqrt(max(0.0, 2 - 2 * score)))
    if isinstance(similarity, Euclidean):
        return Scale("their distance", lambda score: math.sqrt(max(0.0, -score)))
    return Scale("their score, higher for more similar images", float)


def pair_sheets(
    context: EvaluationContext, results: Sequence[Result], split: str, seed: int
) -> dict[str, Any] | str:
    """Random pairs of the same and of different classes, each with its prediction.

    Pairs and thresholds are those of the first verification of the split among the results; where there is none,
    they are sampled as verification does.

    Args:
        context: the model and the data.
        results: of the run.
        split: whose pairs.
        seed: of the choice of pairs that are shown, and of pairs that are sampled.
    """
    options = _options(context.data, results, split, seed)
    try:
        judged = score_pairs(context, **options)
    except VlfewError as error:
        return f"No pairs: {error}."
    scale = scale_of(context.model.similarity_by_name(options["similarity"]))
    same, rng, sheets = judged.pairs.same.numpy(), generator_at(seed, "report", "pairs"), []
    for kind, title in ((True, "Same class"), (False, "Different classes")):
        own = np.flatnonzero(same == kind)
        shown = own[rng.permutation(len(own))[:SHOWN]]
        # The most similar first, so that the eye can follow the distance.
        shown = shown[np.argsort(-judged.scores[shown], kind="stable")]
        subtitle = (
            f"{int(judged.correct[shown].sum())} of the {len(shown)} shown are correct; "
            f"{percent(judged.correct[own].mean(), 1)}% of all {len(own):,}"
        )
        pairs = [_pair(context.data, judged, n, scale) for n in shown.tolist()]
        sheets.append({"title": title, "subtitle": subtitle, "pairs": pairs})
    return {
        "sheets": sheets,
        "scale": scale.name,
        "chosen_on": judged.chosen_on,
        "split": split,
        "seed": seed,
    }


def worst_mistakes(data: LabeledImages, results: Sequence[Result]) -> dict[str, Any] | str | None:
    """The worst mistakes of the first verification; None where there was none."""
    mistakes = next((m for r in results if (m := r.get("mistakes")) is not None), None)
    if not mistakes:
        return None if mistakes is None else "Verification made no mistakes."
    sheets = []
    for kind, title in (
        (True, "Same class, predicted different"),
        (False, "Different classes, predicted same"),
    ):
        pairs = [
            {
                "images": pair_thumbnails(data, m["first"], m["second"]),
                "mark": "",
                "style": "plain",
                "value": f"{m['score']:.2f}",
                "threshold": f"{m['threshold']:.2f}",
            }
            for m in mistakes
            if m["same"] == kind
        ]
        if pairs:
            sheets.append({"title": title, "subtitle": "worst first", "pairs": pairs})
    return {"sheets": sheets}


def _options(data: LabeledImages, results: Sequence[Result], split: str, seed: int) -> dict[str, Any]:
    """Every option of the verification whose pairs are shown."""
    given: dict[str, Any] = {"split": split, "seed": seed, "pairs": DRAWN}
    done = [r for r in results if r.protocol == "verification" and r.split == split and r.options]
    options = PROTOCOLS.checked("verification", done[0].options if done else given)
    own = dict.fromkeys(("pairs", "folds")) if split in data.pairs else {}
    # A file of pairs has what the seed gives; writing a page must not write one.
    return options | own | {"pairs_file": None}


def _pair(data: LabeledImages, judged: ScoredPairs, n: int, scale: Scale) -> dict[str, Any]:
    pairs = judged.pairs
    predicted = "same" if judged.scores[n] >= judged.thresholds[n] else "different"
    value, threshold = (f"{scale.of(float(v[n])):.2f}" for v in (judged.scores, judged.thresholds))
    images = pair_thumbnails(data, int(pairs.i[n]), int(pairs.j[n]))
    return {
        "images": images,
        "value": value,
        "threshold": threshold,
        **mark(bool(judged.correct[n]), predicted),
    }
