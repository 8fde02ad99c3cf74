"""ROC curves of verification and CMC curves of identification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vlfew.evaluation.results import Result
from vlfew.report.charts import PALETTE, Axis, Chart, Series, draw_chart
from vlfew.report.formatting import percent, title

LOWEST = 1e-3
"""Smallest false accept rate (FAR) of the chart; its axis is logarithmic."""
READ_AT = 1e-2
"""FAR at which the legend reads the curves."""
RANKS = 20
"""Most ranks of a CMC."""
FAR = Axis("FAR", {LOWEST: "0.1%", 1e-2: "1%", 1e-1: "10%", 1.0: "100%"}, log=True)
RANK = Axis("rank k", {k: str(k) for k in (1, 2, 3, 4, 5, 10, 15, 20)})


@dataclass(frozen=True)
class Drawn:
    """A result in a chart.

    Attributes:
        result: with `roc` or `cmc`, or neither.
        letter: of its run; "" where there is only one run.
        color: of its curve.
    """

    result: Result
    letter: str = ""
    color: str = PALETTE[0]


def verification_curves(results: Sequence[Result]) -> dict[str, Any] | None:
    """ROC and CMC of each result that has them; None where none has."""
    return curve_section([(title(r), [Drawn(r)]) for r in results])


def curve_section(settings: Sequence[tuple[str, Sequence[Drawn]]]) -> dict[str, Any] | None:
    """A chart for each setting and kind of curve; None where there is none.

    Args:
        settings: the title of each, and the results of the runs.
    """
    rocs = [c for name, drawn in settings if (c := _chart(f"ROC, {name}", map(roc_series, drawn), FAR))]
    cmcs = [c for name, drawn in settings if (c := _chart(f"CMC, {name}", map(_cmc_series, drawn), RANK))]
    if not (rocs or cmcs):
        return None
    return {"rocs": rocs, "cmcs": cmcs}


def roc_series(drawn: Drawn) -> Series | None:
    """The ROC from `LOWEST` on, with its band; None where the result has none.

    `roc` has `far` and `tar`, the points of the curve, and `low` and `high`, the band around it, or only the points.
    """
    roc = drawn.result.get("roc") or {}
    if not roc.get("far"):
        return None
    keys = [key for key in ("far", "tar", "low", "high") if key in roc]
    found = sorted(tuple(map(float, point)) for point in zip(*(roc[key] for key in keys), strict=True))
    # The axis starts above zero, with what is accepted just before.
    before = [point for point in found if point[0] <= LOWEST]
    shown = [*((LOWEST, *point[1:]) for point in before[-1:]), *(p for p in found if p[0] > LOWEST)]
    columns = dict(zip(keys, map(list, zip(*shown, strict=True)), strict=True))
    x, y = columns["far"], columns["tar"]
    read = max((tar for far, tar in zip(x, y, strict=True) if far <= READ_AT), default=0.0)
    low, high = columns.get("low", []), columns.get("high", [])
    text = [f"FAR {100 * far:.3g}%: TAR {100 * tar:.1f}%" for far, tar in zip(x, y, strict=True)]
    return Series(_name(drawn, read), x, y, drawn.color, text, low, high)


def _cmc_series(drawn: Drawn) -> Series | None:
    shares = [float(share) for share in (drawn.result.get("cmc") or [])[:RANKS]]
    if not shares:
        return None
    ranks = [n + 1.0 for n in range(len(shares))]
    text = [f"rank {n:.0f}: {percent(y)}%" for n, y in zip(ranks, shares, strict=True)]
    return Series(_name(drawn, shares[0]), ranks, shares, drawn.color, text, marker="circle")


def _chart(caption: str, series: Iterable[Series | None], axis: Axis) -> Chart | None:
    shown = [one for one in series if one]
    return draw_chart(caption, shown, axis, percents=True) if shown else None


def _name(drawn: Drawn, read: float) -> str:
    return f"{drawn.letter} {percent(read, 1)}%".strip()
