"""The pairs that verification got most wrong, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfew.data.images import LabelledImages
from vlfew.evaluation.results import Result
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.pictures import side_by_side

KINDS = {True: "The same, taken for different", False: "Different, taken for the same"}


def draw_mistakes(data: LabelledImages, results: Sequence[Result]) -> Html | None:
    """The worst mistakes of the first verification; None where there was none."""
    result = next((r for r in results if r.get("mistakes") is not None), None)
    if result is None:
        return None
    mistakes: list[dict[str, Any]] = result.get("mistakes")
    if not mistakes:
        return paragraph("No pair was told wrong.")
    sheets = []
    for kind, title in KINDS.items():
        own = [m for m in mistakes if m["same"] == kind]
        if own:
            caption = element("figcaption", title, element("small", "worst first"))
            pairs = element("div", *(_pair(data, m) for m in own), class_="pairs")
            sheets.append(element("figure", caption, pairs, class_="card"))
    lead = paragraph(
        "The pairs furthest on the wrong side of their threshold. Under each: its score, and the threshold "
        "that was chosen on pairs of other classes. A look at them tells a model that is weak from data "
        "that are wrong."
    )
    return join(lead, element("div", *sheets, class_="mistakes"))


def _pair(data: LabelledImages, mistake: dict[str, Any]) -> Html:
    score = f"{mistake['score']:.2f} against {mistake['threshold']:.2f}"
    return element(
        "div", side_by_side(data, mistake["first"], mistake["second"]), element("p", score, class_="aside")
    )
