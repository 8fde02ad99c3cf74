"""Line charts as inline SVG: drawn in the page's own colours and font."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vlfew.report.markup import Html, element, join

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 16, 34
LINE = 15
"""Height of a line of text."""
LABEL = 15
"""Most characters in a line of a label."""


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        x, y: its points.
        label: stands at its end, when there is one.
        colour: number in the page's palette; None is the colour of text.
        raw: `y` before smoothing, drawn faintly.
        low, high: a band around it, drawn faintly; an interval, say.
        dots: whether to mark each point.
        faint: whether it stands behind the others.
        whiskers: whether `low` and `high` are drawn as a stroke through each point, not as a band: of
            many lines, bands would hide each other.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    colour: int | None = None
    raw: Sequence[float] = field(default=())
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    dots: bool = False
    faint: bool = False
    whiskers: bool = False

    @property
    def style(self) -> str:
        return "ink" if self.colour is None else f"c{self.colour}"


@dataclass(frozen=True)
class Dot:
    """A point of its own.

    Attributes:
        x, y: where it is.
        label: is read when pointed at.
        style: a class of the style sheet.
        href: where it leads.
    """

    x: float
    y: float
    label: str
    style: str
    href: str | None = None


@dataclass(frozen=True)
class Axis:
    """The horizontal axis.

    Attributes:
        name: what it counts, in a word.
        text: how a tick is written.
        at: where the ticks are, ascending; round numbers when empty.
        log: whether equal distances are equal ratios; then all `x` are above zero.
        zero: whether it starts at zero.
        span: where it starts and ends, whatever is drawn; by what is drawn when None.
    """

    name: str = "step"
    text: Callable[[float], str] = "{:,g}".format
    at: Sequence[float] = field(default=())
    log: bool = False
    zero: bool = True
    span: tuple[float, float] | None = None

    def place(self, x: float) -> float:
        """Where `x` is, on a scale of its own."""
        return math.log10(x) if self.log else x


STEPS = Axis()


@dataclass(frozen=True)
class Mark:
    """A point worth pointing at."""

    x: float
    y: float
    label: str


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within `low..high`, roughly `about` of them, 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round numbers within `low..high` for a logarithmic axis: powers of ten or, if few, 1, 2, 5 of each."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1,), (1, 2, 5)):
        found = [m * 10.0**p for p in powers for m in multiples]
        inside = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) > 2:
            break
    return inside or [low, high]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    dots: Sequence[Dot] = (),
    x_axis: Axis = STEPS,
    y_text: Callable[[float], str] = "{:,g}".format,
    from_zero: bool = False,
    mark: Mark | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    letters: int = LABEL,
) -> Html:
    """Curves over steps, or whatever the axis counts, labelled where they end.

    Args:
        title: says what the vertical axis is, with its unit.
        lines: the curves, each with at least one point.
        dots: points of their own, in front of the curves; one point at least in all.
        x_axis: what is counted from left to right.
        y_text: how a vertical tick is written.
        from_zero: whether the vertical axis starts at zero.
        mark: a point to ring and to label, nowhere below its curve.
        size: width and height, in units of which a letter is 13 high.
        letters: most in a line of a label.
    """
    width, height = size
    xs = [x for line in lines for x in (*line.x, *x_axis.at)] + [dot.x for dot in dots]
    ys = [y for line in lines for y in (*line.y, *line.raw, *line.low, *line.high)] + [dot.y for dot in dots]
    low, high = (0.0 if from_zero else min(ys)), max(ys)
    pad = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = (low if from_zero or low == 0 else low - pad), high + (3 * pad if mark else pad)
    first, last = x_axis.span or (min(xs), max(xs))
    if x_axis.span is None and x_axis.zero and not x_axis.log and len(xs) > 1:
        first = min(0.0, first)
    start, span = x_axis.place(first), x_axis.place(last) - x_axis.place(first) or 1.0

    named = sorted((line for line in lines if line.label), key=lambda line: -line.y[-1])
    labels = [textwrap.wrap(line.label, letters) for line in named]
    right = width - RIGHT - max((8 * len(row) + 9 for rows in labels for row in rows), default=0)

    def px(x: float) -> float:
        return LEFT + (x_axis.place(x) - start) / span * (right - LEFT)

    def py(y: float) -> float:
        return height - BOTTOM - (y - low) / (high - low) * (height - TOP - BOTTOM)

    def path(line: Line, values: Sequence[float], style: str) -> Html:
        points = " L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, values, strict=True))
        return element("path", d="M" + points, class_=f"{style} {line.style}")

    parts: list[Html] = []
    for value in ticks(low, high):
        parts.append(element("path", d=f"M{LEFT} {py(value):.1f} H{right}", class_="grid"))
        parts.append(_text(LEFT - 8, py(value) + 4, y_text(value), "tick", "end"))
    for value in x_axis.at or ticks(first, last):
        parts.append(_text(px(value), height - BOTTOM + 18, x_axis.text(value), "tick", "middle"))
    parts.append(_text(LEFT - 22, height - BOTTOM + 18, x_axis.name, "tick", "end"))
    for line in lines:
        if line.low and not line.whiskers:
            above = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
            below = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, line.low, strict=True)]
            around = "M" + " L".join([*above, *reversed(below)]) + "Z"
            parts.append(element("path", d=around, class_=f"band {line.style}"))
    for line in lines:
        if line.raw:
            parts.append(path(line, line.raw, "raw"))
    for line in lines:
        parts.append(path(line, line.y, "raw" if line.faint else "line"))
        if line.low and line.whiskers:
            ends = zip(line.x, line.low, line.high, strict=True)
            strokes = " ".join(f"M{px(x):.1f} {py(a):.1f} V{py(b):.1f}" for x, a, b in ends)
            parts.append(element("path", d=strokes, class_=f"whiskers {line.style}"))
        if line.dots or len(line.x) == 1:  # a single point makes no line
            marks = (element("circle", cx=px(x), cy=py(y), r=3) for x, y in zip(line.x, line.y, strict=True))
            parts.append(element("g", *marks, class_=f"dots {line.style}"))
    for dot in dots:
        drawn = element(
            "circle", element("title", dot.label), cx=px(dot.x), cy=py(dot.y), r=5, class_=f"dot {dot.style}"
        )
        parts.append(drawn if dot.href is None else element("a", drawn, href=dot.href))
    heights = [LINE * len(rows) + 4 for rows in labels]
    middles = spread([py(line.y[-1]) for line in named], heights, height - BOTTOM)
    for line, rows, middle in zip(named, labels, middles, strict=True):
        for n, row in enumerate(rows):
            y = middle + LINE * (n - len(rows) / 2 + 0.75)
            parts.append(_text(px(last) + 9, y, row, f"label {line.style}", "start"))
    if mark is not None:
        x, y = px(mark.x), py(mark.y)
        parts.append(element("circle", cx=x, cy=y, r=7, class_="ring"))
        anchor, aside = ("end", 6) if x > width / 2 else ("start", -6)
        parts.append(_text(x + aside, y - 14, mark.label, "label", anchor))
    chart = element("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)
    return element("figure", element("figcaption", title), chart)


def spread(wanted: Sequence[float], tall: Sequence[float], bottom: float) -> list[float]:
    """Middles of labels, ascending as `wanted`, moved so that none overlap or leave `0..bottom`.

    They are moved down, then up from the bottom; labels too many to fit overlap nothing but the top.
    """
    placed: list[float] = []
    top = 0.0
    for middle, height in zip(wanted, tall, strict=True):
        placed.append(max(middle, top + height / 2))
        top = placed[-1] + height / 2
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], bottom - tall[number] / 2)
        bottom = placed[number] - tall[number] / 2
    return placed


def _text(x: float, y: float, said: str, style: str, anchor: str) -> Html:
    return element("text", join(said), x=float(x), y=float(y), class_=style, text_anchor=anchor)
