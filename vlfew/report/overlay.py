"""Curves of several runs in common charts: training, and accuracy against the number of shots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfew.core.config_diff import flat_values
from vlfew.evaluation.results import Result
from vlfew.report.charts import Axis, Chart, Series, draw_chart
from vlfew.report.formatting import percent, title
from vlfew.report.load_run import FinishedRun
from vlfew.report.match_results import Row, evaluation_key
from vlfew.report.training_curves import points, smooth, thin

UNITS = {"hours": 3600.0, "min": 60.0, "s": 1.0}


def overlay_training(runs: Sequence[FinishedRun]) -> dict[str, Any] | str:
    """Training loss and validation accuracy of all runs, over steps and over time."""
    validations = {run.number: _validations(run) for run in runs}
    protocols = dict.fromkeys(entry["protocol"] for entries in validations.values() for entry in entries)
    longest = max((float(e.get("seconds", 0)) for run in runs for e in run.log), default=0.0)
    unit = next((unit for unit, seconds in UNITS.items() if longest >= 2 * seconds), "s")
    charts = []
    for over, axis, scale in (("step", Axis(), 1.0), ("seconds", Axis(unit), UNITS[unit])):
        when = "" if over == "step" else ", over time"
        losses = [s for run in runs if (s := _loss(run, over, scale))]
        if losses:
            charts.append(draw_chart(f"Training loss{when}", losses, axis))
        for protocol in protocols:
            name = f"Validation accuracy, {protocol}{when}"
            lines = [
                s for run in runs if (s := _validation(run, validations[run.number], protocol, over, scale))
            ]
            if lines:
                charts.append(draw_chart(name, lines, axis, percents=True))
    if not charts:
        return "No curves: the logs have no training steps."
    objectives = {
        str([v for k, v in flat_values(run.config).items() if k.startswith("objective")]) for run in runs
    }
    return {"charts": charts, "comparable": len(objectives) == 1}


def overlay_shots(runs: Sequence[FinishedRun], rows: Sequence[Row]) -> list[Chart] | None:
    """A chart for each evaluation with several numbers of shots; None where there is none."""
    families: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.first.get("shots"):
            families.setdefault(evaluation_key(row.first, "shots"), []).append(row)
    charts = [chart for members in families.values() if (chart := _shots_chart(runs, members))]
    return charts or None


def shots_axis(shots: Sequence[int]) -> Axis:
    """Logarithmic, with a tick for each number of shots."""
    return Axis("shots", {float(k): str(k) for k in shots}, log=True)


def shots_series(
    name: str, color: str, accuracies: dict[int, tuple[float, float | None]], bars: bool = False
) -> Series:
    """Accuracy and half width of its interval, if any, by number of shots; intervals are cut at 0 and 1."""
    means, text, low, high = [], [], list[float](), list[float]()
    for k, (mean, half) in accuracies.items():
        a, b = max(mean - (half or 0.0), 0.0), min(mean + (half or 0.0), 1.0)
        means.append(mean)
        shown = "no interval" if half is None else f"{100 * a:.1f}% to {100 * b:.1f}%"
        text.append(f"{k}-shot: {100 * mean:.1f}% ({shown})")
        if any(known is not None for _, known in accuracies.values()):
            low, high = [*low, a], [*high, b]
    return Series(name, list(map(float, accuracies)), means, color, text, low, high, bars, marker="circle")


def _shots_chart(runs: Sequence[FinishedRun], rows: Sequence[Row]) -> Chart | None:
    series, shots = [], set()
    for run in runs:
        own: dict[int, Result] = {r.get("shots"): r for row in rows if (r := row.results[run.number])}
        if len(own) < 2:  # one number of shots is not a curve
            continue
        accuracies = {k: (own[k].accuracy, own[k].ci95) for k in sorted(own)}
        shots |= set(own)
        name = f"{run.letter} {percent(own[max(own)].accuracy, 1)}%"
        series.append(shots_series(name, run.color, accuracies))
    if not series:
        return None
    first = rows[0].first
    name = title(first, rows[0].setting.replace(f" {first.get('shots')}-shot", ""))
    return draw_chart(name, series, shots_axis(sorted(shots)), percents=True)


def _loss(run: FinishedRun, over: str, scale: float) -> Series | None:
    x, y = thin(*points(run.log, "loss", over))
    if not x:
        return None
    smoothed = smooth(y)
    return Series(f"{run.letter} {smoothed[-1]:.2f}", [at / scale for at in x], smoothed, run.color)


def _validations(run: FinishedRun) -> list[dict[str, Any]]:
    return [
        entry["validation"] | {k: entry[k] for k in ("step", "seconds") if k in entry}
        for entry in run.log
        if "validation" in entry
    ]


def _validation(
    run: FinishedRun, entries: Sequence[dict[str, Any]], protocol: str, over: str, scale: float
) -> Series | None:
    x, y = points([e for e in entries if e["protocol"] == protocol], "accuracy", over)
    if not x:
        return None
    name = f"{run.letter} {percent(max(y), 1)}%"
    return Series(name, [at / scale for at in x], y, run.color, marker="circle")
