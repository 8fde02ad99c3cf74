"""Several runs on one page, in a table for the terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from vlfew.errors import RunError
from vlfew.files import write_whole
from vlfew.report.cards import draw_head, title_of_page
from vlfew.report.finished import FinishedRun, read_finished
from vlfew.report.legend import draw_legend
from vlfew.report.markup import Html
from vlfew.report.matching import Row, match
from vlfew.report.overlaid import draw_overlaid
from vlfew.report.page import write_page
from vlfew.report.pairing import Comparison, compare
from vlfew.report.roc import Drawn, draw_rocs
from vlfew.report.shots import draw_shots
from vlfew.report.side_by_side import (
    MARKS,
    at_row,
    draw_comparisons,
    draw_rows,
    draw_settings,
    how,
    points,
    probability,
    standings,
)
from vlfew.report.wording import accuracy, counted, title

LINES = 12
"""Most comparisons that are listed on the terminal."""


@dataclass(frozen=True)
class Compared:
    """Runs, the questions they answered, and how far apart their answers are."""

    runs: list[FinishedRun]
    rows: list[Row]
    comparisons: list[Comparison]

    @property
    def found(self) -> str:
        """What came of it, in a sentence."""
        questions = counted(len(self.rows), "question")
        if len(self.runs) == 1 and (members := self.runs[0].folder.members):
            names = f"{members[0].path.name} to {members[-1].path.name}"
            return (
                f"{counted(len(members), 'run')}, and their answers to {questions} as one, with intervals over "
                f"the runs. Each has a page of its own, with pictures: report.html in {names}."
            )
        if len(self.runs) == 1:
            page = self.runs[0].folder.report
            return f"One run, and its answers to {questions}; its own page, with pictures, is {page}."
        significant = sum(bool(c.significant) for c in self.comparisons)
        return (
            f"{questions}, {counted(len(self.comparisons), 'comparison')}; {significant} of the differences "
            f"{'is' if significant == 1 else 'are'} significant."
        ).capitalize()


def compare_runs(paths: Sequence[Path]) -> Compared:
    """Reads finished runs and compares every two of them.

    Raises:
        VlfewError: a folder that is no finished run, or damaged; several runs that no two of answered the
            same question; says which, and the way out.
    """
    runs = read_finished(paths)
    rows = match([run.results for run in runs])
    if len(runs) > 1 and all(len(row.given) < 2 for row in rows):
        told = "; ".join(f"{r.name} answered {', '.join(map(title, r.results)) or 'nothing'}" for r in runs)
        raise RunError(
            f"no two of these runs answered the same question, so there is nothing to compare: {told}; give runs "
            "that were evaluated alike, or each alone"
        )
    return Compared(runs, rows, compare(runs, rows))


def write_comparison(compared: Compared, out: Path) -> None:
    """Writes one self-contained page."""
    runs, rows, comparisons = compared.runs, compared.rows, compared.comparisons
    drawn = [(row.title, [Drawn(r, runs[n].letter, runs[n].number) for n, r in row.given]) for row in rows]
    curved = [run for run in runs if any(r.get("roc") or r.get("cmc") for r in run.results)]
    parts: dict[str, Html | None] = {
        "Results": draw_rows(runs, rows, comparisons),
        "Differences": draw_comparisons(runs, rows, comparisons) if len(runs) > 1 else None,
        "Verification": draw_rocs(drawn, draw_legend(curved)),
        "Shots": draw_shots(runs, rows),
        "Training": draw_overlaid(runs),
        "Configuration": draw_settings(runs) if len(runs) > 1 else None,
    }
    shown = {name: part for name, part in parts.items() if part}
    write_whole(out, write_page(title_of_page(runs), draw_head(runs, compared.found), shown))


def write_comparison_json(compared: Compared, path: Path) -> None:
    """Writes the figures and differences of the page as JSON; fractions, not percent."""
    names = [run.name for run in compared.runs]
    questions = [
        {
            "protocol": row.first.protocol,
            "data": row.first.data,
            "split": row.first.split,
            "setting": row.setting,
        }
        for row in compared.rows
    ]
    content: dict[str, Any] = {
        "runs": [_facts(run) for run in compared.runs],
        "results": [
            question | {"results": {names[n]: r.model_dump() for n, r in row.given}}
            for question, row in zip(questions, compared.rows, strict=True)
        ],
        "differences": [
            questions[c.row]
            | {
                "first": names[c.first],
                "second": names[c.second],
                "difference": c.difference.mean,
                "ci95": c.difference.ci95,
                "p": c.difference.p,
                "p_holm": c.corrected,
                "paired": c.episodes is not None,
                "episodes": c.episodes,
                "why_not_paired": c.why,
            }
            for c in compared.comparisons
        ],
    }
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _facts(run: FinishedRun) -> dict[str, Any]:
    spec, counts = run.spec, run.parameters or (None, None)
    return {
        "name": run.name,
        "path": str(run.folder.path),
        "seed": run.config.seed,
        "trained_on": run.about.get("trained_on"),
        "data_fingerprint": run.about.get("data_fingerprint"),
        "backbone": run.config.image.backbone,
        "front_end": spec.front_end,
        "text_encoder": run.config.text.encoder if spec.text else None,
        "input_size": [spec.channels, spec.image_size, spec.image_size],
        "outside_data": spec.outside_data,
        "trained_parameters": counts[0],
        "frozen_parameters": counts[1],
        "steps": run.config.optim.steps,
        "seconds": run.about.get("seconds"),
    }


def comparison_tables(compared: Compared) -> list[Table]:
    """For the terminal: the figures side by side and, where they are few, the differences."""
    runs, rows, comparisons = compared.runs, compared.rows, compared.comparisons
    figures = _table(["protocol", "data/split", "setting"], [run.name for run in runs])
    for number, row in enumerate(rows):
        marks = standings(row, at_row(comparisons, number))
        cells = [
            "-" if r is None else f"{MARKS[marks[n]]} {accuracy(r)}".strip()
            for n, r in enumerate(row.results)
        ]
        first = row.first
        figures.add_row(*map(Text, (first.protocol, f"{first.data}/{first.split}", row.setting, *cells)))
    if not 0 < len(comparisons) <= LINES:
        return [figures]
    numbers = ["points", "p", "corrected"]
    differences = _table(["protocol", "setting", "difference"], numbers, ["episodes"])
    for c in comparisons:
        row, d = rows[c.row], c.difference
        pair = f"{runs[c.second].name} - {runs[c.first].name}"
        tests = (points(c), probability(d.p), probability(c.corrected))
        differences.add_row(*map(Text, (row.first.protocol, row.setting, pair, *tests, how(c, row))))
    return [figures, differences]


def _table(left: Sequence[str], right: Sequence[str], last: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for names, side in ((left, "left"), (right, "right"), (last, "left")):
        for name in names:
            table.add_column(Text(name), justify="right" if side == "right" else "left", overflow="fold")
    return table
