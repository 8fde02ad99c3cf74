"""Interactive charts: series to a Bokeh figure that fits the page in light, in dark and in print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from bokeh import models
from bokeh.embed import json_item
from bokeh.plotting import figure
from bokeh.themes import Theme

PALETTE = (
    "#2b8fd6", "#e2701f", "#1a9e72", "#c868a6", "#b58a14", "#24a5c2", "#8571d8", "#98836a",
    "#e0566d", "#7f9c25", "#6d7fa8", "#b25fc4",
)  # fmt: skip
"""Colors that can be distinguished on white and on black, also by most of the color-blind."""
GRAY = "#83878f"
"""Legible on both."""
TOOLTIP = '<div style="max-width: 240px"><b>$name</b><br>@text{}</div>'
IMAGE = '<br><img src="@image" alt="" style="image-rendering: pixelated; min-width: 64px">'
OPEN_PAGE = """
const {selected, data} = cb_data.source
const page = data.page && data.page[selected.indices[0]]
if (page) window.location = page
"""


@dataclass(frozen=True)
class Series:
    """What one entry of the legend shows and hides.

    Attributes:
        name: in the legend.
        x: numbers, or the names of categories.
        y: numbers.
        color: of the line, its points and its interval.
        text: of each point, when hovering; x and y by default.
        low, high: ends of the interval of each point.
        bars: whether intervals are bars, not a band: bands of many series would hide each other.
        raw: `y` before smoothing, drawn faintly.
        line: whether points are joined: by straight lines, by steps, or not.
        marker: Bokeh's name of the shape of the points; "" draws none.
        size: of the points in pixels.
        hollow: whether only the outline of the points is drawn.
        alpha: opacity.
        columns: further values of each point: `image`, shown when hovering, and `page`, opened on a click.
    """

    name: str
    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    color: str
    text: Sequence[str] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    bars: bool = False
    raw: Sequence[float] = ()
    line: str = "line"
    marker: str = ""
    size: int = 7
    hollow: bool = False
    alpha: float = 1.0
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """The horizontal axis.

    Attributes:
        name: what it counts.
        ticks: value to label; round numbers when empty.
        log: whether equal distances are equal ratios.
        categories: where `x` are names.
    """

    name: str = "step"
    ticks: Mapping[float, str] = field(default_factory=dict)
    log: bool = False
    categories: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """A figure with its title, and its legend of names and colors."""

    title: str
    figure: figure
    legend: list[tuple[str, str]]


def draw_chart(
    title: str,
    series: Sequence[Series],
    axis: Axis | None = None,
    *,
    percents: bool = False,
    from_zero: bool = False,
    legend: bool = True,
    **options: Any,
) -> Chart:
    """Series in one chart, with values when hovering and a legend that hides them.

    Args:
        title: what the vertical axis shows, with its unit.
        series: in the order of the legend.
        axis: the horizontal one; by default it counts steps.
        percents: whether the vertical axis shows fractions as percentages.
        from_zero: whether it starts at zero.
        legend: whether there is one.
        options: of Bokeh's `figure`.
    """
    axis = axis or Axis()
    if axis.categories:
        options["x_range"] = list(axis.categories)
    kind: Any = "log" if axis.log else "auto"
    plot: Any = figure(
        x_axis_type=kind, x_axis_label=axis.name or None, tools="", **({"height": 250} | options)
    )
    plot.xgrid.visible = False
    if axis.ticks:
        plot.xaxis.ticker = models.FixedTicker(ticks=list(axis.ticks))
        plot.xaxis.major_label_overrides = dict(axis.ticks)
    elif not (axis.categories or axis.log):
        plot.xaxis.formatter = models.NumeralTickFormatter(format="0,0.[000]")
    plot.yaxis.formatter = models.NumeralTickFormatter(format="0.[00]%" if percents else "0,0.[000000]")
    if from_zero:
        plot.y_range.start = 0
    hovered = [_draw(plot, one, axis, percents) for one in series]
    keys = {key for one in series for key in one.columns}
    tooltips = TOOLTIP.replace("{}", IMAGE if "image" in keys else "")
    snap: dict[str, Any] = {"point_policy": "snap_to_data", "line_policy": "nearest"}
    plot.add_tools(models.HoverTool(renderers=hovered, tooltips=tooltips, **snap))
    if "page" in keys:
        plot.add_tools(models.TapTool(renderers=hovered, callback=models.CustomJS(code=OPEN_PAGE)))
    return Chart(title, plot, [(one.name, one.color) for one in series] if legend else [])


def _draw(plot: Any, one: Series, axis: Axis, percents: bool) -> Any:
    """Draws a series; all of its renderers have its name. Returns the one that shows values when hovering."""
    values = [f"{100 * y:.2f}%" if percents else f"{y:,.4g}" for y in one.y]
    places = [x if isinstance(x, str) else f"{x:,g}" for x in one.x]
    text = one.text or [f"{axis.name} {x}: {y}" for x, y in zip(places, values, strict=True)]
    columns: dict[str, Any] = {
        "x": one.x,
        "y": one.y,
        "text": text,
        "low": one.low,
        "high": one.high,
        "raw": one.raw,
    } | dict(one.columns)
    source = models.ColumnDataSource({key: list(values) for key, values in columns.items() if len(values)})
    shared: dict[str, Any] = {"source": source, "name": one.name, "color": one.color}
    if len(one.low) and one.bars:
        plot.segment("x", "low", "x", "high", line_width=1.5, alpha=0.7, **shared)
    elif len(one.low):
        plot.varea("x", "low", "high", alpha=0.16, **shared)
    if len(one.raw):
        plot.line("x", "raw", alpha=0.3, **shared)
    drawn = None
    if one.line == "steps":
        drawn = plot.step("x", "y", mode="after", line_width=2.2, **shared)
    elif one.line and len(one.x) > 1:
        drawn = plot.line("x", "y", line_width=2.2, line_join="round", alpha=one.alpha, **shared)
    if one.marker or drawn is None:  # a single point is not a line
        look: dict[str, Any] = {"fill_color": None, "line_width": 2} if one.hollow else {}
        marker = one.marker or "circle"
        drawn = plot.scatter("x", "y", marker=marker, size=one.size, alpha=one.alpha, **shared, **look)
        drawn.nonselection_glyph = None
    return drawn


def embed(chart: Chart, prefix: str) -> str:
    """The figure as JSON for a script of the page; the same figure always gives the same text.

    Args:
        chart: what is embedded.
        prefix: of the ids, which must differ between the charts of a page.
    """
    theme = json.loads(files("vlfew.report").joinpath("templates/theme.json").read_text())
    item = json_item(chart.figure, theme=Theme(json=theme))
    text = json.dumps(item, separators=(",", ":"), ensure_ascii=False)
    # Bokeh counts ids from the start of the process.
    ids = {old: f"{prefix}{n}" for n, old in enumerate(dict.fromkeys(re.findall(r'"id":"(p\d+)"', text)))}
    text = re.sub(r'(?<=[:\[,])"(p\d+)"', lambda m: f'"{ids.get(m[1], m[1])}"', text)
    return text.replace("<", "\\u003c")
