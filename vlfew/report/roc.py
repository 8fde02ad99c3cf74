"""Verification and identification as curves: ROC and CMC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlfew.evaluation.results import Result
from vlfew.report.charts import Axis, Line, line_chart
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.wording import percent, title

LOWEST = 1e-3
"""Least rate of false accepts that is drawn; the axis is logarithmic."""
READ_AT = 1e-2
"""Rate of false accepts at which the labels read the curves."""
RANKS = 20
"""Most ranks drawn."""


@dataclass(frozen=True)
class Drawn:
    """A result whose curve is drawn.

    Attributes:
        result: with `roc` or `cmc`, or neither.
        letter: of its run; "" where there is one run only.
        colour: number in the page's palette.
    """

    result: Result
    letter: str = ""
    colour: int = 0


def roc_chart(caption: str, drawn: Sequence[Drawn]) -> Html | None:
    """True accepts against false accepts, with their bands; None where no result has `roc`.

    `roc` holds `far` and `tar` (points of the curve) and, for a band around it, `low` and `high`.
    """
    lines = [roc_line(d) for d in drawn if (d.result.get("roc") or {}).get("far")]
    if not lines:
        return None
    lines.sort(key=lambda line: -_read(line))  # labels of equal height stand in this order
    axis = Axis("FAR", _rate, at=(LOWEST, 1e-2, 1e-1, 1.0), log=True)
    return line_chart(caption, lines, x_axis=axis, y_text=_rate)


def cmc_chart(caption: str, drawn: Sequence[Drawn]) -> Html | None:
    """Share of queries whose class is among the k best, against k; None where no result has `cmc`.

    `cmc` holds the share at rank 1, 2 and so on.
    """
    shown = [d for d in drawn if d.result.get("cmc")]
    if not shown:
        return None
    shown.sort(key=lambda d: -d.result.get("cmc")[0])
    lines = []
    for d in shown:
        shares = [float(share) for share in d.result.get("cmc")[:RANKS]]
        label = f"{d.letter} {percent(shares[0], 1)}%".strip()
        lines.append(Line([n + 1.0 for n in range(len(shares))], shares, label, d.colour, dots=True))
    most = max(len(line.x) for line in lines)
    at = [k for k in (1, 2, 3, 4, 5, 10, 15, 20) if k <= most]
    return line_chart(caption, lines, x_axis=Axis("rank", at=at, zero=False), y_text=_rate)


def draw_verification(results: Sequence[Result]) -> Html | None:
    """ROC and CMC of each result that has them; None where none has."""
    return draw_rocs([(title(r), [Drawn(r)]) for r in results])


def draw_rocs(questions: Sequence[tuple[str, Sequence[Drawn]]], legend: Html | None = None) -> Html | None:
    """A chart for each question and kind of curve; None where there is none to draw.

    Args:
        questions: what each asks, and the results of the runs.
        legend: of the runs, where there are several.
    """
    rocs = [c for asked, drawn in questions if (c := roc_chart(f"ROC, {asked}", drawn))]
    cmcs = [c for asked, drawn in questions if (c := cmc_chart(f"CMC, {asked}", drawn))]
    if not (rocs or cmcs):
        return None
    roc = (
        "ROC: the share of pairs of one class that are accepted, against the false accept rate (FAR), the "
        f"share of pairs of two classes that are; the label reads it at {_rate(READ_AT)}, the band is one "
        "standard error about the mean over folds or runs. A TAR at FAR among the results is no point of the "
        "curve: its threshold was set where that of the accuracy was, and lets through more or less here. "
    )
    cmc = "CMC: the share of queries whose true class is among the first k (rank); the label reads rank 1."
    lead = paragraph((roc if rocs else "") + (cmc if cmcs else ""))
    return join(lead, legend or "", element("div", *rocs, *cmcs, class_="charts"))


def roc_line(drawn: Drawn) -> Line:
    """The curve from `LOWEST` on."""
    roc = drawn.result.get("roc")
    band = "low" in roc and "high" in roc
    columns = [roc["far"], roc["tar"], *([roc["low"], roc["high"]] if band else [])]
    points = sorted(tuple(float(v) for v in point) for point in zip(*columns, strict=True))
    # The axis starts above zero: what is accepted there is what is accepted just before.
    before = [p for p in points if p[0] <= LOWEST]
    start = [(LOWEST, *before[-1][1:])] if before else []
    shown = [*start, *(p for p in points if p[0] > LOWEST)]
    x, y, *around = ([p[n] for p in shown] for n in range(len(columns)))
    line = Line(x, y, colour=drawn.colour)
    label = f"{drawn.letter} {percent(_read(line), 1)}%".strip()
    return Line(x, y, label, drawn.colour, (), *(around if band else ((), ())))


def _read(line: Line) -> float:
    """The curve at `READ_AT`; 0 before its first point, where nothing is accepted."""
    return max((y for x, y in zip(line.x, line.y, strict=True) if x <= READ_AT), default=0.0)


def _rate(fraction: float) -> str:
    return f"{100 * fraction:g}%"
