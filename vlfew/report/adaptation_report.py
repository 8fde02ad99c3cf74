"""A comparison of few-shot methods, in a table for the terminal and on one page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from vlfew.core.files import write_atomic
from vlfew.evaluation.adaptation.compare import Adaptation, Cell, Figure
from vlfew.report.charts import Axis, Line, line_chart
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.page import write_page
from vlfew.report.formatting import counted, duration, half_width, percent

COLORS = 12
"""In the page's palette."""
SIZE, LETTERS = (1064, 560), 30
"""Of the chart, as wide as the page, and of a line of its labels."""
SPREAD = 0.3
"""Lines stand beside each other, at most so many doublings of the shots apart, so that intervals show."""
NONE = "–"


def adaptation_table(found: Adaptation) -> Table:
    """A row a method, a column for each number of shots; with new classes, base, new and their harmonic mean."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    if found.base_to_new:
        table.add_column("classes", no_wrap=True)
    for k in found.shots:
        table.add_column(f"{counted(k, 'shot')}, %", justify="right", no_wrap=True)
    for method in found.methods:
        for part, figures in _parts(found, method):
            named = [Text(method), Text(part)] if found.base_to_new else [Text(method)]
            table.add_row(*named, *(Text(_said(figure)) for figure in figures))
    return table


def write_adapted(path: Path, found: Adaptation) -> None:
    """The page: one self-contained file."""
    parts = {
        "Accuracy against shots": _draw_chart(found),
        "Figures": _draw_figures(found),
        "Calibration": _draw_calibration(found),
        "Options and time": _draw_options(found),
        "How to read it": _draw_reading(found),
    }
    title = f"{found.data} / {found.split}: few-shot methods"
    write_atomic(path, write_page(title, _draw_head(found), parts))


def _parts(found: Adaptation, method: str) -> list[tuple[str, list[Figure | None]]]:
    """The rows of a method: of all classes; or of base, new and both."""
    cells = [found.cell(method, k) for k in found.shots]
    if not found.base_to_new:
        return [("", [cell.accuracy for cell in cells])]
    return [
        ("base", [cell.accuracy for cell in cells]),
        ("new", [cell.new for cell in cells]),
        ("harmonic mean", [cell.harmonic for cell in cells]),
    ]


def _said(figure: Figure | None) -> str:
    """`91.53 ± 0.41`, in percent; a dash where there is none; see `half_width`."""
    if figure is None:
        return NONE
    return percent(figure.mean) + ("" if figure.ci95 is None else f" {half_width(figure.mean, figure.ci95)}")


def _name(method: str) -> str:
    return method.replace("_", " ")


def _draw_head(found: Adaptation) -> Html:
    c, h, w = found.input_size
    new = ", half of them base and half new" if found.base_to_new else ""
    queries = sorted({min(found.queries), max(found.queries)})
    facts = {
        "Model": found.model,
        "Trained on": found.trained_on or "not said",
        "Outside data": "yes" if found.outside_data else "no",
        "Data": f"{found.data}, fingerprint {found.data_fingerprint}",
        "Classes": f"{found.classes:,} of {found.split}{new}",
        "Support": f"{', '.join(map(str, found.shots))} images a class of {found.support_split}",
        "Queries": f"{' to '.join(f'{q:,}' for q in queries)} images in a draw",
        "Draws": f"{counted(len(found.repeats), 'seed')}, the same for all methods",
        "Chance": f"{100 * found.chance:.3g}%",
        "Prompts": found.descriptions or ", ".join(found.templates),
        "Input": f"{w} × {h} pixels, {'gray' if c == 1 else 'color'}",
        "Time": duration(found.seconds),
    }
    notes = [f"Chosen: {found.chosen_by}.", *found.notes]
    if found.left_out:
        notes.append(f"Left out, since they need words: {', '.join(map(_name, found.left_out))}.")
    pairs = (element("div", element("dt", label), element("dd", said)) for label, said in facts.items())
    lead = (
        f"{counted(len(found.methods), 'method')} on the frozen features of one model, told the same "
        f"images and asked the same: {found.classes:,} classes of {found.data} / {found.split}."
    )
    return element(
        "header",
        element("p", "vlfew adapt", class_="kicker"),
        element("h1", f"{found.data} / {found.split}"),
        element("p", lead, class_="lead"),
        element("ul", *(element("li", note) for note in notes), class_="notes"),
        element("dl", *pairs),
        element("pre", element("code", found.command)),
    )


def _draw_chart(found: Adaptation) -> Html:
    gaps = [math.log2(b / a) for a, b in pairwise(found.shots)]
    interval_unit, last = SPREAD * min([1.0, *gaps]), len(found.methods) - 1
    lines = []
    for number, method in enumerate(found.methods):
        aside = 2 ** (interval_unit * (number / last - 0.5)) if last else 1.0
        cells = [found.cell(method, k) for k in found.shots]
        figures = [cell.harmonic if found.base_to_new else cell.accuracy for cell in cells]
        shown = [(k * aside, f) for k, f in zip(found.shots, figures, strict=True) if f is not None]
        if not shown:
            continue
        half = [f.ci95 or 0.0 for _, f in shown]
        lines.append(
            Line(
                [x for x, _ in shown],
                [f.mean for _, f in shown],
                f"{_name(method)} {percent(shown[-1][1].mean, 1)}%",
                number % COLORS,
                low=[max(f.mean - h, 0.0) for (_, f), h in zip(shown, half, strict=True)],
                high=[min(f.mean + h, 1.0) for (_, f), h in zip(shown, half, strict=True)],
                dots=True,
                whiskers=True,
            )
        )
    what = "Harmonic mean of base and new accuracy" if found.base_to_new else "Accuracy"
    lead = paragraph(
        f"{what} against the images a class that a method was told, with 95% intervals over repeats; labels read the "
        "most shots. Lines stand a little beside each other so that their intervals can be seen."
    )
    if not lines:
        return join(lead, paragraph("None of these methods answers for classes without images."))
    axis = Axis("shots", at=[float(k) for k in found.shots], log=True)
    title = f"{what}, {found.data} / {found.split}"
    chart = line_chart(title, lines, x_axis=axis, y_text=_percents, size=SIZE, letters=LETTERS)
    return join(lead, element("div", chart, class_="scroll wide"))


def _draw_figures(found: Adaptation) -> Html:
    what = (
        "Accuracy on base and on new classes, each among its own half, and their harmonic mean"
        if found.base_to_new
        else "Accuracy"
    )
    dash = f" {NONE}: the method cannot answer for classes it has no images of." if found.base_to_new else ""
    interval = " with the half width of its 95% interval over repeats" if len(found.repeats) > 1 else ""
    rows = []
    for number, method in enumerate(found.methods):
        for at, (part, figures) in enumerate(_parts(found, method)):
            name = _method(method, number) if at == 0 else ""
            named = [element("td", name), element("td", part)] if part else [element("td", name)]
            cells = (element("td", _said(figure), class_="number") for figure in figures)
            rows.append(element("tr", *named, *cells, class_="further" if at else None))
    first = ["method", "classes"] if found.base_to_new else ["method"]
    return join(paragraph(f"{what} in percent{interval}.{dash}"), _table(first, found.shots, rows))


def _draw_calibration(found: Adaptation) -> Html:
    scaled = found.choose != "fixed"
    rows = []
    for number, method in enumerate(found.methods):
        cells = [found.cell(method, k) for k in found.shots]
        said = [
            percent(c.ece.mean, 1) + (f" → {percent(c.ece_scaled.mean, 1)}" if c.ece_scaled else "")
            for c in cells
        ]
        rows.append(
            element(
                "tr",
                element("td", _method(method, number)),
                *(element("td", one, class_="number") for one in said),
            )
        )
    after = (
        "; after the arrow, with scores divided by a temperature that was chosen as the options were"
        if scaled
        else "; no temperature was chosen"
    )
    base = " of the base classes" if found.base_to_new else ""
    lead = paragraph(
        f"Expected calibration error{base} in percent (Guo et al. 2017, 15 bins), mean over repeats: how far the largest "
        f"softmax probability is from the share of answers that are right{after}. Methods whose scores are plain "
        "cosines, between -1 and 1, say little before they are scaled."
    )
    return join(lead, _table(["method"], found.shots, rows))


def _draw_options(found: Adaptation) -> Html:
    rows = []
    for number, method in enumerate(found.methods):
        cells = [found.cell(method, k) for k in found.shots]
        rows.append(
            element(
                "tr",
                element("td", _method(method, number)),
                *(element("td", *_options(cell, cells), class_="number") for cell in cells),
            )
        )
    lead = paragraph(
        "The options that differ between cells, and below them the seconds that fitting and answering took, mean over "
        "repeats, without those for choosing. All options are in adapt.json."
    )
    return join(lead, _table(["method"], found.shots, rows))


def _options(cell: Cell, cells: Sequence[Cell]) -> list[Html | str]:
    every = [options for c in cells for options in c.options]
    keys = [k for k in every[0] if len({json.dumps(options[k]) for options in every}) > 1]
    said = []
    for key in keys:
        values = list(dict.fromkeys(_plain(options[key]) for options in cell.options))
        said.append(element("span", f"{_name(key)} {', '.join(values)}"))
    return [element("div", *said, class_="extras"), element("small", f"{cell.seconds:.2g} s")]


def _plain(value: Any) -> str:
    return (
        f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )


def _draw_reading(found: Adaptation) -> Html:
    repeats = len(found.repeats)
    said = [
        "A seed draws the support of each class once for all methods; the images of fewer shots are among those "
        f"of more. All methods meet the same {counted(repeats, 'draw')}: one that is ahead in each of them is ahead by "
        "more than the intervals suggest, which hold what all have in common.",
        "Intervals are Student's t over repeats: they speak of other images as the support, not of other classes, nor "
        "of another training of the model." + (" With one seed there are none." if repeats == 1 else ""),
        f"{found.chosen_by[0].upper()}{found.chosen_by[1:]}. No option was chosen by the queries.",
    ]
    if found.tune_on == "held-out-images":
        said.append(
            "Images that choose are labeled images too: a method with options saw as many a class again as it had "
            "shots, up to the number said. Only --tune-on fixed and --tune-on val compare at the shots that are named."
        )
    return join(*map(paragraph, said))


def _table(first: Sequence[str], shots: Sequence[int], rows: Sequence[Html]) -> Html:
    columns = (element("th", counted(k, "shot"), class_="number") for k in shots)
    head = element("tr", *(element("th", name) for name in first), *columns)
    table = element("table", element("thead", head), element("tbody", *rows), class_="side-by-side adapted")
    return element("div", table, class_="card scroll")


def _method(method: str, number: int) -> Html:
    """The name beside the color of its line."""
    return element(
        "span",
        element("b", class_=f"swatch c{number % COLORS}"),
        element("span", _name(method)),
        class_="run",
    )


def _percents(fraction: float) -> str:
    return f"{100 * fraction:g}%"
