"""Parts of a comparison's page: the figures side by side, their differences, the settings that differ."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from vlfew.config import flat_values
from vlfew.evaluation.differences import EXACT
from vlfew.report.finished import FinishedRun
from vlfew.report.legend import badge, named
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.matching import Row, different_answers
from vlfew.report.pairing import LEVEL, Comparison
from vlfew.report.wording import accuracy, chance_percent, counted, extras, percent

Standing = Literal["best", "near", ""]

MARKS: dict[Standing, str] = {"best": "★", "near": "≈", "": ""}
OPEN = 6
"""Up to so many comparisons of one question are shown at once; more, when asked for."""
MANY = 5
"""More columns than these are set closer, with the intervals below."""
NOT_TRAINING = ("name", "evaluate")
"""Parts of a configuration that say nothing about the training."""
WIDE, TALL = 240, 22
"""Of the picture of an interval."""


def standings(row: Row, comparisons: Sequence[Comparison]) -> dict[int, Standing]:
    """Which runs are best at a question, and which the tests do not tell from the best.

    Args:
        row: the question; with fewer than two answers none is best.
        comparisons: at this question.
    """
    top = max(r.accuracy for _, r in row.given)
    best = {run for run, r in row.given if math.isclose(r.accuracy, top)}
    near = {
        run
        for c in comparisons
        if c.significant is False
        for run, other in ((c.first, c.second), (c.second, c.first))
        if other in best
    }
    if len(row.given) < 2:
        return {run: "" for run, _ in row.given}
    return {run: "best" if run in best else "near" if run in near else "" for run, _ in row.given}


def at_row(comparisons: Sequence[Comparison], row: int) -> list[Comparison]:
    """Those of one question."""
    return [c for c in comparisons if c.row == row]


def how(comparison: Comparison, row: Row) -> str:
    """On what a difference at the question stands."""
    if comparison.episodes is None:
        return f"not paired: {comparison.why}"
    # A protocol may keep finer answers than it takes its interval over: pairs of pictures, not folds.
    noun = "episode" if comparison.episodes == row.first.episodes else "answer"
    return f"paired over {counted(comparison.episodes, noun)}"


def points(comparison: Comparison) -> str:
    """`−0.26 ± 0.11`, in percentage points."""
    d = comparison.difference
    signed = f"{round(100 * d.mean, 2) + 0.0:+.2f}".replace("-", "−")  # no zero below zero
    return signed if d.ci95 is None else f"{signed} ± {percent(d.ci95)}"


def probability(p: float | None) -> str:
    """To two digits; `-` where there is no test."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def draw_rows(runs: Sequence[FinishedRun], rows: Sequence[Row], comparisons: Sequence[Comparison]) -> Html:
    """A row a question, a column a run."""
    if not rows:
        return paragraph("No evaluation was run.")
    columns = (element("th", named(run), class_="number") for run in runs)
    head = element("tr", element("th", "question"), *columns)
    lines = []
    for number, row in enumerate(rows):
        marks, answers = standings(row, at_row(comparisons, number)), iter(different_answers(row))
        guess = chance_percent(row.first)
        about = f"{row.first.data} / {row.first.split}" + (f" · chance {guess}%" if guess != "-" else "")
        asked = (element("b", row.first.protocol), "" if row.setting == "-" else f" {row.setting}")
        cells = [element("td", *asked, element("small", about))]
        for run, result in enumerate(row.results):
            if result is None:
                cells.append(element("td", "–", class_="number none"))
                continue
            figure, further = accuracy(result), [*extras(result), *filter(None, [next(answers)])]
            if len(runs) > MANY:
                figure, interval = figure.split(" ", 1)
                further.insert(0, interval)
            mark = marks[run]
            cells.append(
                element(
                    "td",
                    element("i", MARKS[mark]) if mark else None,
                    element("b" if mark == "best" else "span", figure),
                    *(element("small", said) for said in further),
                    class_=f"number {mark}".strip(),
                )
            )
        lines.append(element("tr", *cells))
    told = (
        f" {MARKS['best']} is the best of a row; {MARKS['near']} is not told from it by the tests below."
        if len(runs) > 1
        else ""
    )
    style = "side-by-side many" if len(runs) > MANY else "side-by-side"
    table = element("table", element("thead", head), element("tbody", *lines), class_=style)
    lead = f"Accuracy in percent with the half width of its 95% interval, or its ends where one is 0 or 100.{told}"
    return join(paragraph(lead), element("div", table, class_="card scroll"))


def draw_comparisons(
    runs: Sequence[FinishedRun], rows: Sequence[Row], comparisons: Sequence[Comparison]
) -> Html:
    """Every difference with its interval and its test, question by question."""
    tested = sum(c.corrected is not None for c in comparisons)
    lead = join(
        paragraph(
            "How many percentage points the first of two runs is ahead of the second, with the 95% interval. "
            "Where both met the same episodes, the difference is paired: it is taken episode by episode. p is "
            f"that of a paired t test (of all sign flips, where at most {EXACT} episodes differ); where pairing "
            "is not possible, errors are taken as independent and p is that of a normal test. Holm's "
            f"correction is over {counted(tested, 'comparison')}, all on this page; significant, and drawn in "
            f"the colour of the run that is ahead, is what is below {LEVEL} after it."
        ),
        paragraph(
            "The classes are those of the split, the same for both: intervals and tests speak of other episodes "
            "drawn from them, not of new classes, nor of the same training with another seed."
        ),
    )
    blocks = [_block(runs, row, found) for n, row in enumerate(rows) if (found := at_row(comparisons, n))]
    return join(lead, element("div", *blocks, class_="card differences"))


def draw_settings(runs: Sequence[FinishedRun]) -> Html:
    """The settings of training that differ, a column a run."""
    values = [
        {k: v for k, v in flat_values(run.config).items() if k.partition(".")[0] not in NOT_TRAINING}
        for run in runs
    ]
    keys = [
        k
        for k in dict.fromkeys(k for v in values for k in v)
        if len({_plain(v[k]) if k in v else None for v in values}) > 1
    ]
    if not keys:
        return paragraph("The configurations of training are the same.")
    head = element("tr", element("th", "setting"), *(element("th", named(run)) for run in runs))
    lines = [
        element(
            "tr",
            element("td", key),
            *(
                element("td", _plain(v[key]) if key in v else "–", class_=None if key in v else "none")
                for v in values
            ),
        )
        for key in keys
    ]
    table = element("table", element("thead", head), element("tbody", *lines), class_="side-by-side settings")
    lead = paragraph("The settings of training in which the runs differ; all others are the same.")
    return join(lead, element("div", table, class_="card scroll"))


def _block(runs: Sequence[FinishedRun], row: Row, comparisons: Sequence[Comparison]) -> Html:
    reach = max(abs(c.difference.mean) + (c.difference.ci95 or 0) for c in comparisons) or 1.0
    significant = sum(bool(c.significant) for c in comparisons)
    title = element(
        "summary",
        element("b", row.first.protocol),
        row.title.removeprefix(row.first.protocol),
        element("span", f"{significant} of {len(comparisons)} significant", class_="aside"),
    )
    lines = (_line(runs, row, c, reach) for c in comparisons)
    return element("details", title, element("ol", *lines), open=len(comparisons) <= OPEN)


def _line(runs: Sequence[FinishedRun], row: Row, c: Comparison, reach: float) -> Html:
    first, second = runs[c.first], runs[c.second]
    weight = "b" if c.significant else "span"
    untested = c.corrected is None
    ahead = second if c.difference.mean > 0 else first
    return element(
        "li",
        element("span", badge(second), " − ", badge(first), class_="pair"),
        _whisker(c, reach, ahead.number if c.significant else None),
        element(weight, points(c), class_="number"),
        element("span", "no test" if untested else f"p {probability(c.difference.p)}"),
        element(weight, "" if untested else f"corrected {probability(c.corrected)}"),
        element("span", how(c, row), class_="aside"),
    )


def _whisker(c: Comparison, reach: float, colour: int | None) -> Html:
    """The difference and its interval about zero, as wide as `reach` on either side."""

    def px(value: float) -> float:
        return WIDE / 2 + value / reach * (WIDE / 2 - 8)

    d, middle = c.difference, TALL // 2
    parts = [element("path", d=f"M{WIDE / 2:.1f} 0 V{TALL}", class_="grid")]
    if d.ci95 is not None:
        low, high = px(d.mean - d.ci95), px(d.mean + d.ci95)
        ends = f"M{low:.1f} {middle} H{high:.1f} M{low:.1f} {middle - 4} v8 M{high:.1f} {middle - 4} v8"
        parts.append(element("path", d=ends, class_="whisker"))
    parts.append(element("circle", cx=px(d.mean), cy=float(middle), r=4))
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDE} {TALL}",
        role="img",
        aria_label=points(c),
        class_="soft" if colour is None else f"c{colour}",
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
