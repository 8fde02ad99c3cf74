"""Pairs of pictures with their distances: how far apart the same and the different lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfew.counting import generator_at
from vlfew.data.images import LabelledImages
from vlfew.errors import VlfewError
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.results import Result
from vlfew.evaluation.subject import Subject
from vlfew.evaluation.verification import Judged, judge_pairs
from vlfew.report.episodes import RIGHT, WRONG
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.pictures import side_by_side
from vlfew.report.wording import percent
from vlfew.scorers.base import Scorer
from vlfew.scorers.prototypes import Prototypes
from vlfew.scorers.similarity import Cosine, Euclidean

SHOWN = 12
"""Pairs of each kind on the sheet."""
DRAWN = 2000
"""Pairs that are drawn to choose the thresholds, where nothing else was asked."""


@dataclass(frozen=True)
class Scale:
    """How a score is said to people.

    Attributes:
        name: what the figures are.
        of: the figure of a score.
    """

    name: str
    of: Callable[[float], float]


def scale_of(scorer: Scorer) -> Scale:
    """Distances where the similarity has them, else its scores."""
    metric = (
        scorer.metric if isinstance(scorer, Prototypes) else None
    )  # two pictures are each other's prototype
    if isinstance(scorer, Cosine) or metric == "cosine":
        # |a - b|^2 = 2 - 2 cos for vectors of length 1.
        return Scale("the distance of their unit vectors", lambda score: math.sqrt(max(0.0, 2 - 2 * score)))
    if isinstance(scorer, Euclidean) or metric == "euclidean":
        return Scale("their distance", lambda score: math.sqrt(max(0.0, -score)))
    return Scale("their score, higher for what is more alike", float)


def draw_pairs(subject: Subject, results: Sequence[Result], split: str, seed: int) -> Html:
    """A sheet of random pairs, same and different, each with the verdict of its threshold.

    The pairs and the thresholds are those of the first verification of the split among the results;
    where there is none, drawn as it draws them.

    Args:
        subject: the model and the data.
        results: of the run.
        split: whose pairs.
        seed: of the choice of pairs that are shown, and of pairs that are drawn.
    """
    options = _options(subject.data, results, split, seed)
    try:
        judged = judge_pairs(subject, **options)
    except VlfewError as error:
        return paragraph(f"No pairs: {error}.")
    scale = scale_of(subject.model.scorer(options["scorer"]))
    same, right = judged.pairs.same.numpy(), judged.right
    rng, sheets = generator_at(seed, "report", "pairs"), []
    for kind, title in ((True, "The same"), (False, "Different")):
        own = np.flatnonzero(same == kind)
        shown = own[rng.permutation(len(own))[:SHOWN]]
        # What is most alike first, so that the eye can follow the distance.
        shown = shown[np.argsort(-judged.scores[shown], kind="stable")]
        told = (
            f"{int(right[shown].sum())} of {len(shown)} here are told right; {percent(right[own].mean(), 1)}%"
        )
        caption = element("figcaption", title, element("small", f"{told} of all {len(own):,}"))
        tiles = (_tile(subject.data, judged, n, scale) for n in shown.tolist())
        sheets.append(element("figure", caption, element("div", *tiles, class_="pairs"), class_="card"))
    lead = paragraph(
        f"Pairs of the {split} split drawn at random (seed {seed}), not chosen for their outcome. Under each: "
        f"{scale.name}, and the threshold at which the verdict turns, chosen on {judged.chosen_on}. {RIGHT} is "
        f"told right, {WRONG} wrong."
    )
    return join(lead, element("div", *sheets, class_="mistakes"))


def _options(data: LabelledImages, results: Sequence[Result], split: str, seed: int) -> dict[str, Any]:
    """Every option of the verification that the sheet is of."""
    asked: dict[str, Any] = {"split": split, "seed": seed, "pairs": DRAWN}
    done = [r for r in results if r.protocol == "verification" and r.split == split and r.asked]
    options = PROTOCOLS.checked("verification", done[0].asked if done else asked)
    own = dict.fromkeys(("pairs", "folds")) if split in data.pairs else {}
    # A file of pairs holds what the seed gives; a page is no place to write one.
    return options | own | {"pairs_file": None}


def _tile(data: LabelledImages, judged: Judged, n: int, scale: Scale) -> Html:
    """One pair, its figure and its verdict."""
    pairs, good = judged.pairs, bool(judged.right[n])
    said = "the same" if judged.scores[n] >= judged.thresholds[n] else "different"
    figure, threshold = (f"{scale.of(float(v[n])):.2f}" for v in (judged.scores, judged.thresholds))
    return element(
        "div",
        element(
            "span",
            side_by_side(data, int(pairs.i[n]), int(pairs.j[n])),
            element("b", f"{RIGHT if good else WRONG} {said}"),
            class_="tile right" if good else "tile wrong",
        ),
        element("p", element("b", figure), f" against {threshold}", class_="aside"),
    )
