"""How several runs were trained: their curves in one chart each, a colour for each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfew.config import flat_values
from vlfew.report.charts import STEPS, Axis, Line, line_chart
from vlfew.report.curves import points, smooth, thin
from vlfew.report.finished import FinishedRun
from vlfew.report.legend import draw_legend
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.wording import percent

UNITS = {"hours": 3600.0, "min": 60.0, "s": 1.0}


def draw_overlaid(runs: Sequence[FinishedRun]) -> Html:
    """Training loss and validation accuracy over steps and over time."""
    protocols = list(dict.fromkeys(e["validation"]["protocol"] for run in runs for e in _validated(run)))
    longest = max((float(e.get("seconds", 0)) for run in runs for e in run.log), default=0.0)
    unit = next((unit for unit, seconds in UNITS.items() if longest >= 2 * seconds), "s")
    charts = []
    for over, x_axis, scale in (("step", STEPS, 1.0), ("seconds", Axis(unit), UNITS[unit])):
        losses = [line for run in runs if (line := _loss(run, over, scale))]
        drawn = [("Training loss", losses)]
        for protocol in protocols:
            lines = [line for run in runs if (line := _validation(run, protocol, over, scale))]
            drawn.append((f"Validation accuracy, {protocol}", lines))
        for title, lines in drawn:
            when = "" if over == "step" else ", over time"
            y_text = _percents if title.startswith("Validation") else "{:,g}".format
            if lines:
                charts.append(line_chart(title + when, lines, x_axis=x_axis, y_text=y_text))
    if not charts:
        return paragraph("No curves: the logs hold no training steps.")
    objectives = {
        str({k: v for k, v in flat_values(r.config).items() if k.startswith("objective")}) for r in runs
    }
    warning = "The objectives differ: their losses do not compare. " if len(objectives) > 1 else ""
    lead = paragraph(
        f"{warning}Losses are smoothed, and end with their last value; validation accuracies end with the "
        "best one, by which the checkpoint was chosen. Time is that of training alone, on the machine at hand."
    )
    return join(lead, draw_legend(runs), element("div", *charts, class_="charts"))


def _loss(run: FinishedRun, over: str, scale: float) -> Line | None:
    x, y = thin(*points(run.log, "loss", over))
    if not x:
        return None
    smoothed = smooth(y)
    return Line([at / scale for at in x], smoothed, f"{run.letter} {smoothed[-1]:.2f}", run.number)


def _validation(run: FinishedRun, protocol: str, over: str, scale: float) -> Line | None:
    entries = [
        {"accuracy": e["validation"]["accuracy"], **{k: e[k] for k in ("step", "seconds") if k in e}}
        for e in _validated(run)
        if e["validation"]["protocol"] == protocol
    ]
    x, y = points(entries, "accuracy", over)
    if not x:
        return None
    label = f"{run.letter} {percent(max(y), 1)}%"
    return Line([at / scale for at in x], y, label, run.number, dots=True)


def _validated(run: FinishedRun) -> list[dict[str, Any]]:
    return [entry for entry in run.log if "validation" in entry]


def _percents(fraction: float) -> str:
    return f"{100 * fraction:g}%"
