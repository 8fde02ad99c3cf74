"""A comparison of few-shot methods on a frozen model, as a page and as a table for the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table
from rich.text import Text

from vlfew.core.files import write_atomic
from vlfew.core.plurals import counted
from vlfew.evaluation.adaptation.result import AdaptationResult, Estimate
from vlfew.report.charts import PALETTE, Chart, draw_chart
from vlfew.report.formatting import figure, option_value, percent, spaced
from vlfew.report.overlay import shots_axis, shots_series
from vlfew.report.page import render


def adaptation_table(found: AdaptationResult) -> Table:
    """A row for each method, a column for each number of shots; with new classes, rows for base, new and both."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("method", "classes")[: 1 + found.base_to_new]:
        table.add_column(name, no_wrap=True)
    for k in found.shots:
        table.add_column(f"{counted(k, 'shot')}, %", justify="right", no_wrap=True)
    for method in found.methods:
        for part, figures in _parts(found, method).items():
            names = [method, part] if found.base_to_new else [method]
            table.add_row(*map(Text, [*names, *map(figure, figures)]))
    return table


def write_adaptation_report(path: Path, found: AdaptationResult) -> None:
    """Writes one self-contained page."""
    colors = {method: PALETTE[n % len(PALETTE)] for n, method in enumerate(found.methods)}
    part = {
        "found": found,
        "colors": colors,
        "parts": {method: _parts(found, method) for method in found.methods},
        "options": {method: _differing_options(found, method) for method in found.methods},
        "scaled": any(cell.ece_scaled for cell in found.cells),
        "chart": _chart(found, colors),
    }
    sections = dict.fromkeys(
        ("Accuracy by shots", "Results", "Calibration", "Options and time", "How to read it"), part
    )
    title = f"{found.data} / {found.split}: few-shot methods"
    write_atomic(path, render("adaptation", title, part, sections))


def _parts(found: AdaptationResult, method: str) -> dict[str, list[Estimate | None]]:
    """The rows of a method: of all classes; or of base classes, new classes and both."""
    cells = [found.cell(method, k) for k in found.shots]
    parts: dict[str, list[Estimate | None]] = {"base": [cell.accuracy for cell in cells]}
    if found.base_to_new:
        parts |= {"new": [c.new for c in cells], "harmonic mean": [c.harmonic for c in cells]}
    return parts


def _chart(found: AdaptationResult, colors: dict[str, str]) -> Chart | None:
    """The accuracy of each method, over base and new classes where there are new ones, with its intervals."""
    series = []
    for method in found.methods:
        figures = dict(zip(found.shots, list(_parts(found, method).values())[-1], strict=True))
        known = {k: f for k, f in figures.items() if f is not None}
        if known:
            last = list(known.values())[-1].mean
            name = f"{spaced(method)} {percent(last, 1)}%"
            points = {k: (f.mean, f.ci95) for k, f in known.items()}
            series.append(shots_series(name, colors[method], points, bars=True))
    what = "Harmonic mean of base and new accuracy" if found.base_to_new else "Accuracy"
    title = f"{what}, {found.data} / {found.split}"
    axis = shots_axis(found.shots)
    return draw_chart(title, series, axis, percents=True, height=460) if series else None


def _differing_options(found: AdaptationResult, method: str) -> list[list[str]]:
    """For each number of shots, the options of the method that are not the same everywhere."""
    cells = [found.cell(method, k).options for k in found.shots]
    every = [options for cell in cells for options in cell]
    keys = [k for k in every[0] if len({json.dumps(options[k]) for options in every}) > 1]
    return [
        [
            f"{spaced(k)} {', '.join(dict.fromkeys(option_value(options[k]) for options in cell))}"
            for k in keys
        ]
        for cell in cells
    ]
