"""Interactive charts: series to a Bokeh figure that fits the page in light, in dark and in print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bokeh.embed import json_item
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    FixedTicker,
    HoverTool,
    LogTickFormatter,
    NumeralTickFormatter,
    TapTool,
)
from bokeh.plotting import figure

PALETTE = (
    "#2b8fd6", "#e2701f", "#1a9e72", "#c868a6", "#b58a14", "#24a5c2", "#8571d8", "#98836a",
    "#e0566d", "#7f9c25", "#6d7fa8", "#b25fc4",
)  # fmt: skip
"""Colors that can be told apart on white and on black, also by most of the color-blind."""
GRAY, FAINT = "#83878f", "rgba(131, 135, 143, 0.22)"
"""Text and grid lines, legible on both."""
HEIGHT = 250
TOOLTIP = '<div class="hover"><b>$name</b><br>@text{IMAGE}</div>'
FOLLOW_LINK = """
const {selected, data} = cb_data.source
const page = (data.page ?? [])[selected.indices[0]]
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
        line: whether the points are joined.
        steps: whether they are joined by steps.
        marker: Bokeh's name of the shape of the points; "" draws none.
        size: of the points.
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
    line: bool = True
    steps: bool = False
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
    """A figure, its title and its legend."""

    title: str
    figure: figure
    legend: list[tuple[str, str]]


STEPS = Axis()


def draw_chart(
    title: str,
    series: Sequence[Series],
    axis: Axis = STEPS,
    *,
    percents: bool = False,
    from_zero: bool = False,
    legend: bool | None = None,
    height: int = HEIGHT,
    **options: Any,
) -> Chart:
    """Series in one chart, with values when hovering and a legend that hides them.

    Args:
        title: what the vertical axis shows, with its unit.
        series: in the order of the legend.
        axis: the horizontal one.
        percents: whether the vertical axis shows fractions as percentages.
        from_zero: whether it starts at zero.
        legend: whether there is one; by default where there are several series.
        height: in pixels.
        options: of Bokeh's `figure`.
    """
    if axis.categories:
        options["x_range"] = list(axis.categories)
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_type="log" if axis.log else "auto",
        x_axis_label=axis.name or None,
        toolbar_location=None,
        tools="",
        **options,
    )
    hovered = [_draw(plot, one, axis, percents) for one in series]
    _style(plot, axis, percents, from_zero)
    image = '<br><img src="@image" alt="">' if any("image" in one.columns for one in series) else ""
    plot.add_tools(
        HoverTool(
            renderers=hovered,
            tooltips=TOOLTIP.replace("{IMAGE}", image),
            point_policy="snap_to_data",
            line_policy="nearest",
            attachment="vertical",
        )
    )
    if any("page" in one.columns for one in series):
        plot.add_tools(TapTool(renderers=hovered, callback=CustomJS(code=FOLLOW_LINK)))
    shown = len(series) > 1 if legend is None else legend
    return Chart(title, plot, [(one.name, one.color) for one in series] if shown else [])


def _draw(plot: figure, one: Series, axis: Axis, percents: bool) -> Any:
    """The renderer of a series that is hovered over; all of its renderers bear its name."""
    text = one.text or [f"{axis.name} {x}: {_number(y, percents)}" for x, y in zip(one.x, one.y, strict=True)]
    columns = {"x": list(one.x), "y": list(one.y), "text": list(text)}
    for key in ("low", "high", "raw"):
        if len(values := getattr(one, key)):
            columns[key] = list(values)
    source = ColumnDataSource(columns | {key: list(values) for key, values in one.columns.items()})
    shared = {"source": source, "name": one.name}
    if len(one.low) and one.bars:
        plot.segment("x", "low", "x", "high", line_color=one.color, line_width=1.5, line_alpha=0.7, **shared)
    elif len(one.low):
        plot.varea("x", "low", "high", fill_color=one.color, fill_alpha=0.16, **shared)
    if len(one.raw):
        plot.line("x", "raw", line_color=one.color, line_alpha=0.3, **shared)
    drawn = None
    if one.line and len(one.x) > 1:
        stroke = {"line_color": one.color, "line_width": 2.2, "line_alpha": one.alpha}
        joined = {"mode": "after"} if one.steps else {"line_join": "round"}
        drawn = (plot.step if one.steps else plot.line)("x", "y", **stroke, **joined, **shared)
    if one.marker or drawn is None:  # a single point is no line
        dot = plot.scatter(
            "x",
            "y",
            marker=one.marker or "circle",
            size=one.size,
            line_color=one.color,
            fill_color=None if one.hollow else one.color,
            fill_alpha=one.alpha,
            line_alpha=one.alpha,
            line_width=2 if one.hollow else 1,
            **shared,
        )
        dot.nonselection_glyph = None
        return dot
    return drawn


def _style(plot: figure, axis: Axis, percents: bool, from_zero: bool) -> None:
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    plot.min_border_right = 12
    plot.xgrid.grid_line_color = None
    plot.ygrid.grid_line_color = FAINT
    for one in plot.axis:
        one.axis_line_color = one.major_tick_line_color = one.minor_tick_line_color = None
        one.major_label_text_color = one.axis_label_text_color = GRAY
        one.major_label_text_font_size = one.axis_label_text_font_size = "12px"
        one.axis_label_text_font_style = "normal"
    if axis.ticks:
        plot.xaxis.ticker = FixedTicker(ticks=list(axis.ticks), minor_ticks=[])
        plot.xaxis.major_label_overrides = dict(axis.ticks)
    elif axis.log:
        plot.xaxis.formatter = LogTickFormatter(min_exponent=4)
    elif not axis.categories:
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    if percents:
        plot.yaxis.formatter = NumeralTickFormatter(format="0.[00]%")
    if from_zero:
        plot.y_range.start = 0


def embed(chart: Chart, prefix: str) -> str:
    """The figure as JSON for a script of the page; the same figure always gives the same text.

    Args:
        chart: what is embedded.
        prefix: of the ids, which must differ between the charts of a page.
    """
    item = json_item(chart.figure)
    # Bokeh counts ids from the start of the process.
    text = json.dumps(item, separators=(",", ":"), ensure_ascii=False)
    ids = {old: f"{prefix}{n}" for n, old in enumerate(dict.fromkeys(re.findall(r'"id":"(p\d+)"', text)))}
    text = re.sub(r'(?<=[:\[,])"(p\d+)"', lambda m: f'"{ids.get(m[1], m[1])}"', text)
    return text.replace("<", "\\u003c")


def interval_text(mean: float, low: float, high: float) -> str:
    """`60.0% (57.5% to 62.4%)`, of fractions."""
    return f"{100 * mean:.1f}% ({100 * low:.1f}% to {100 * high:.1f}%)"


def _number(value: float, percents: bool) -> str:
    return f"{100 * value:.2f}%" if percents else f"{value:,.4g}"
