"""Accuracy against the number of support pictures, where results differ in that alone."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.evaluation.results import Result
from vlfew.report.charts import Axis, Line, line_chart
from vlfew.report.finished import FinishedRun
from vlfew.report.legend import draw_legend
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.matching import Row, asked_but
from vlfew.report.wording import percent, title


def draw_shots(runs: Sequence[FinishedRun], rows: Sequence[Row]) -> Html | None:
    """A chart for each question that was asked with several numbers of shots; None where none was."""
    families: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.first.get("shots"):
            families.setdefault(asked_but(row.first, "shots"), []).append(row)
    charts = [c for members in families.values() if (c := _chart(runs, members))]
    if not charts:
        return None
    lead = paragraph(
        "Accuracy against the support pictures of a class, with its 95% interval; the label reads the most."
    )
    several = [run for run in runs if any(_line(run, members) for members in families.values())]
    return join(lead, draw_legend(several), element("div", *charts, class_="charts"))


def _chart(runs: Sequence[FinishedRun], rows: Sequence[Row]) -> Html | None:
    lines = [line for run in runs if (line := _line(run, rows))]
    if not lines:
        return None
    at = sorted({x for line in lines for x in line.x})
    first = rows[0].first
    said = rows[0].setting.replace(f" {first.get('shots')}-shot", "")
    return line_chart(
        title(first, said), lines, x_axis=Axis("shots", at=at, log=True), y_text=lambda y: f"{100 * y:g}%"
    )


def _line(run: FinishedRun, rows: Sequence[Row]) -> Line | None:
    """The run's accuracies; None where there are no two."""
    found: dict[int, Result] = {}
    for row in rows:
        if (result := row.results[run.number]) is not None:
            found[result.get("shots")] = result
    shots = sorted(found)
    if len(shots) < 2:
        return None
    accuracies = [found[k].accuracy for k in shots]
    spans = [found[k].ci95 for k in shots]
    return Line(
        [float(k) for k in shots],
        accuracies,
        f"{run.letter} {percent(accuracies[-1], 1)}%",
        run.number,
        low=[max(a - s, 0.0) for a, s in zip(accuracies, spans, strict=True)],
        high=[min(a + s, 1.0) for a, s in zip(accuracies, spans, strict=True)],
        dots=True,
    )
