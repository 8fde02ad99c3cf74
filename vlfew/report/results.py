"""The results as a table of the page."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.data.images import LabelledImages
from vlfew.evaluation.results import Result
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.wording import accuracy, chance_percent, extras, setting


def draw_results(results: Sequence[Result], data: LabelledImages) -> Html:
    """A row a result, with all that a figure is worth nothing without.

    Args:
        results: the figures.
        data: what they are about.
    """
    if not results:
        return paragraph("No evaluation was run.")
    columns = {
        "protocol": None,
        "data / split": None,
        "setting": "asked",
        "accuracy, %": "number",
        "also, %": "extras",
        "chance, %": "number",
        "interval over": "number",
        "seed": "number",
        "input": "number",
        "outside data": None,
    }
    head = element("tr", *(element("th", name, class_=style) for name, style in columns.items()))
    bodies = []
    for r in results:
        cells = (
            element("b", r.protocol),
            f"{r.data} / {r.split}",
            setting(r),
            element("b", accuracy(r)),
            join(*(element("span", extra) for extra in extras(r))),
            chance_percent(r),
            r.spread,
            str(r.seed),
            "×".join(str(n) for n in r.input_size),
            "yes" if r.outside_data else "no",
        )
        row = (element("td", cell, class_=style) for cell, style in zip(cells, columns.values(), strict=True))
        command = element("td", _command(r), colspan=len(columns))
        bodies.append(element("tbody", element("tr", *row), element("tr", command, class_="command")))
    table = element("table", element("thead", head), *bodies, class_="results")
    new = {
        "class": "classes apart from those of training",
        "picture": "other pictures of the classes of training",
    }
    lead = paragraph(
        "Accuracy with the half width of its 95% interval, or its ends where one is 0 or 100, on "
        f"{new[data.split_by]}. Outside data: whether weights learned from other pictures were used."
    )
    return join(lead, element("div", table, class_="card scroll"))


def _command(result: Result) -> Html:
    interval, scorer = result.get("interval"), result.get("scorer")
    how = [f"interval {interval}" if interval else "", f"scorer {scorer}" if scorer else ""]
    if result.get("transductive"):
        how.append("transductive: all queries of an episode were seen at once")
    if result.get("templates"):
        how.append("prompts " + ", ".join(f"“{t}”" for t in result.get("templates")))
    return element(
        "details",
        element("summary", "command"),
        element("pre", element("code", result.command)),
        element("p", "; ".join(filter(None, how)), class_="aside"),
    )
