"""Several runs on one page, in a table for the terminal, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from vlfew.core.config import flat_values
from vlfew.core.errors import RunError
from vlfew.core.files import write_atomic
from vlfew.report.charts import Axis, Chart, Series, draw_chart
from vlfew.report.formatting import (
    accuracy,
    chance_percent,
    counted,
    duration,
    extras,
    input_size,
    percent,
    title,
)
from vlfew.report.load_run import FinishedRun, read_finished
from vlfew.report.match_results import Row, match, method_differences
from vlfew.report.overlay import overlay_shots, overlay_training
from vlfew.report.page import render
from vlfew.report.significance import LEVEL, Comparison, compare
from vlfew.report.verification_curves import Drawn, curve_section

Rank = Literal["best", "near", ""]

MARKS: dict[Rank, str] = {"best": "★", "near": "≈", "": ""}
LINES = 12
"""Most comparisons that are listed in the terminal."""
OPEN = 6
"""Up to this many comparisons of an evaluation are unfolded at first."""
NAMES = 3
"""Most names in a heading."""
NOT_TRAINING = ("name", "evaluate")
"""Sections of a configuration that do not affect the training."""


@dataclass(frozen=True)
class Compared:
    """Runs, the evaluations they share, and the differences of their results."""

    runs: list[FinishedRun]
    rows: list[Row]
    comparisons: list[Comparison]

    @property
    def summary(self) -> str:
        """The outcome in a sentence."""
        evaluations = counted(len(self.rows), "evaluation")
        if len(self.runs) == 1 and (members := self.runs[0].folder.members):
            names = f"{members[0].path.name} to {members[-1].path.name}"
            return (
                f"{counted(len(members), 'run')} with their results of {evaluations} combined, and intervals over the "
                f"runs. Each has its own page with images: report.html in {names}."
            )
        if len(self.runs) == 1:
            return f"One run with {evaluations}; its own page, with images, is {self.runs[0].folder.report}."
        significant = sum(bool(c.significant) for c in self.comparisons)
        verb = "is" if significant == 1 else "are"
        return (
            f"{evaluations}, {counted(len(self.comparisons), 'comparison')}; {significant} of the differences {verb} "
            "significant."
        )


def compare_runs(paths: Sequence[Path]) -> Compared:
    """Reads finished runs and compares each pair of them.

    Raises:
        VlfewError: a folder that is not a finished run, or damaged; several runs without a common evaluation.
    """
    runs = read_finished(paths)
    rows = match([run.results for run in runs])
    if len(runs) > 1 and all(len(row.given) < 2 for row in rows):
        own = "; ".join(f"{r.name} has {', '.join(map(title, r.results)) or 'no results'}" for r in runs)
        raise RunError(
            f"these runs have no evaluation in common, so there is nothing to compare: {own}; give runs with the same "
            "evaluations, or each run alone"
        )
    return Compared(runs, rows, compare(runs, rows))


def write_comparison(compared: Compared, out: Path) -> None:
    """Writes one self-contained page."""
    runs, rows, several = compared.runs, compared.rows, len(compared.runs) > 1
    drawn = [(row.title, [Drawn(r, runs[n].letter, runs[n].color) for n, r in row.given]) for row in rows]
    sections = {
        "Results": _results(compared),
        "Differences": _differences(compared) if several else None,
        "Verification": curve_section(drawn),
        "Shots": overlay_shots(runs, rows),
        "Training": overlay_training(runs),
        "Configuration": _configuration(runs) if several else None,
    }
    names = [run.name for run in runs]
    heading = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    heading = heading if len(runs) <= NAMES else f"{len(runs)} runs"
    header = {
        "kicker": "vlfew runs compared" if several else "vlfew run",
        "heading": heading,
        "summary": compared.summary,
        "runs": [{"run": run, "facts": _facts(run)} for run in runs],
        "notes": [f"{run.name}: {note}" for run in runs for note in _notes(run)],
    }
    write_atomic(out, render("comparison", heading, header, sections))


def write_comparison_json(compared: Compared, path: Path) -> None:
    """Writes results and differences as JSON; fractions, not percent."""
    names = [run.name for run in compared.runs]
    evaluations = [
        {"protocol": row.first.protocol, "data": row.first.data, "split": row.first.split, "setting": row.setting}
        for row in compared.rows
    ]
    content: dict[str, Any] = {
        "runs": [_run_json(run) for run in compared.runs],
        "results": [
            evaluation | {"results": {names[n]: r.model_dump() for n, r in row.given}}
            for evaluation, row in zip(evaluations, compared.rows, strict=True)
        ],
        "differences": [
            evaluations[c.row]
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
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def comparison_tables(compared: Compared) -> list[Table]:
    """For the terminal: results side by side and, where they are few, the differences."""
    runs, rows, comparisons = compared.runs, compared.rows, compared.comparisons
    results = _table(["protocol", "data/split", "setting"], [run.name for run in runs])
    for number, row in enumerate(rows):
        ranks, first = ranking(row, at_row(comparisons, number)), row.first
        cells = [
            "-" if r is None else f"{MARKS[ranks[n]]} {accuracy(r)}".strip() for n, r in enumerate(row.results)
        ]
        results.add_row(*map(Text, (first.protocol, f"{first.data}/{first.split}", row.setting, *cells)))
    if not 0 < len(comparisons) <= LINES:
        return [results]
    differences = _table(["protocol", "setting", "difference"], ["points", "p", "corrected"], ["episodes"])
    for c in comparisons:
        row = rows[c.row]
        pair = f"{runs[c.second].name} - {runs[c.first].name}"
        tests = (points(c), probability(c.difference.p), probability(c.corrected))
        differences.add_row(*map(Text, (row.first.protocol, row.setting, pair, *tests, pairing(c, row))))
    return [results, differences]


def ranking(row: Row, comparisons: Sequence[Comparison]) -> dict[int, Rank]:
    """Which runs are best at an evaluation, and which do not differ significantly from the best.

    Args:
        row: the evaluation; with fewer than two results none is best.
        comparisons: at this evaluation.
    """
    if len(row.given) < 2:
        return {run: "" for run, _ in row.given}
    top = max(r.accuracy for _, r in row.given)
    best = {run for run, r in row.given if math.isclose(r.accuracy, top)}
    equal = [{c.first, c.second} for c in comparisons if c.significant is False]
    near = {run for pair in equal if pair & best for run in pair}
    return {run: "best" if run in best else "near" if run in near else "" for run, _ in row.given}


def at_row(comparisons: Sequence[Comparison], row: int) -> list[Comparison]:
    """The comparisons of one evaluation."""
    return [c for c in comparisons if c.row == row]


def pairing(comparison: Comparison, row: Row) -> str:
    """What a difference is paired over, or why it is not."""
    if comparison.episodes is None:
        return f"not paired: {comparison.why}"
    # A protocol may store finer results than those of its interval: pairs of images, not folds.
    noun = "episode" if comparison.episodes == row.first.episodes else "answer"
    return f"paired over {counted(comparison.episodes, noun)}"


def points(comparison: Comparison) -> str:
    """`−0.26 ± 0.11`, in percentage points."""
    d = comparison.difference
    signed = f"{round(100 * d.mean, 2) + 0.0:+.2f}".replace("-", "−")  # no negative zero
    return signed if d.ci95 is None else f"{signed} ± {percent(d.ci95)}"


def probability(p: float | None) -> str:
    """To two digits; `-` where there is no test."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def _results(compared: Compared) -> dict[str, Any] | str:
    """A row for each evaluation, a column for each run."""
    if not compared.rows:
        return "No evaluation was run."
    lines = []
    for number, row in enumerate(compared.rows):
        ranks, methods = ranking(row, at_row(compared.comparisons, number)), iter(method_differences(row))
        guess, first, cells = chance_percent(row.first), row.first, []
        for run, result in enumerate(row.results):
            if result is None:
                cells.append(None)
                continue
            value, interval = accuracy(result).split(" ", 1)
            further = [*extras(result), *filter(None, [next(methods)])]
            cells.append({"value": value, "interval": interval, "further": further, "mark": MARKS[ranks[run]]})
        lines.append(
            {
                "protocol": first.protocol,
                "setting": "" if row.setting == "-" else row.setting,
                "data": f"{first.data} / {first.split}" + (f" · chance {guess}%" if guess != "-" else ""),
                "cells": cells,
            }
        )
    marks = f" {MARKS['best']} marks the best run; {MARKS['near']} those that do not differ significantly from it."
    intro = f"Accuracy in percent with its 95% confidence interval.{marks if len(compared.runs) > 1 else ''}"
    return {"intro": intro, "runs": compared.runs, "rows": lines}


def _differences(compared: Compared) -> dict[str, Any]:
    """Each difference with its interval and test, evaluation by evaluation."""
    blocks = []
    for number, row in enumerate(compared.rows):
        found = at_row(compared.comparisons, number)
        if not found:
            continue
        lines = [
            {
                "first": compared.runs[c.first],
                "second": compared.runs[c.second],
                "points": points(c),
                "p": "no test" if c.corrected is None else probability(c.difference.p),
                "corrected": "" if c.corrected is None else probability(c.corrected),
                "significant": bool(c.significant),
                "pairing": pairing(c, row),
            }
            for c in found
        ]
        blocks.append(
            {
                "title": row.title,
                "significant": sum(bool(c.significant) for c in found),
                "lines": lines,
                "open": len(found) <= OPEN,
                "chart": _difference_chart(compared.runs, found),
            }
        )
    tested = sum(c.corrected is not None for c in compared.comparisons)
    intro = (
        "Differences of accuracy between two runs in percentage points, with 95% confidence intervals. Where both runs "
        "were evaluated on the same episodes, the difference and its test are paired, episode by episode (t test, or an "
        "exact sign-flip test where few episodes differ). Otherwise errors are treated as independent (normal test). P "
        f"values have Holm's correction for the {counted(tested, 'comparison')} of this page; a difference is "
        f"significant if its corrected p is below {LEVEL}. Intervals and tests are about other episodes of these "
        "classes, not about new classes or another training with a different seed."
    )
    return {"intro": intro, "blocks": blocks}


def _difference_chart(runs: Sequence[FinishedRun], comparisons: Sequence[Comparison]) -> Chart:
    """Differences and their intervals around zero; significant ones in the color of the better run."""
    names = [f"{runs[c.second].letter} − {runs[c.first].letter}" for c in comparisons]
    series = []
    for name, c in zip(names, comparisons, strict=True):
        d, better = c.difference, runs[c.second if c.difference.mean > 0 else c.first]
        half = d.ci95 or 0.0
        look = {"line": False, "marker": "circle", "bars": True, "size": 9, "text": [f"{points(c)} points"]}
        color = better.color if c.significant else GRAY
        series.append(Series(name, [name], [d.mean], color, low=[d.mean - half], high=[d.mean + half], **look))
    return draw_chart("", series, Axis("", categories=names), percents=True, legend=False, zero_line=True, height=200)


def _configuration(runs: Sequence[FinishedRun]) -> dict[str, Any] | str:
    """The settings of training that differ."""
    values = [
        {k: _plain(v) for k, v in flat_values(run.config).items() if k.partition(".")[0] not in NOT_TRAINING}
        for run in runs
    ]
    keys = dict.fromkeys(k for own in values for k in own)
    differing = [k for k in keys if len({own.get(k) for own in values}) > 1]
    if not differing:
        return "The runs have the same training configuration."
    rows = [(key, [own.get(key) for own in values]) for key in differing]
    return {"intro": "Settings of training in which the runs differ; all others are the same.", "runs": runs, "rows": rows}


def _facts(run: FinishedRun) -> dict[str, str]:
    """What is needed to interpret its results."""
    config, metadata, spec = run.config, run.metadata, run.spec
    batch = config.sampling.batch_size * config.training.gradient_accumulation_steps
    counts = zip(run.parameters or (), ("trained", "frozen"), strict=False)
    repeat = config.repeat
    repeated = {"Runs": f"{len(repeat.values)}, over {repeat.over}; the rest is of the first"} if repeat else {}
    return repeated | {
        "Trained on": str(metadata.get("trained_on", "-")),
        "Image encoder": config.image.stream,
        "Text encoder": f"{config.text.encoder}{', frozen' if config.text.fixed else ''}" if spec.text else "none",
        "Input": input_size(spec.channels, spec.image_size, spec.image_size),
        "Parameters": ", ".join(f"{n:,} {kind}" for n, kind in counts if n) or "-",
        "Training": f"{config.optim.steps:,} steps of {counted(batch, 'image')}",
        "Training time": duration(metadata["seconds"]) if "seconds" in metadata else "-",
        "Outside data": "yes" if spec.outside_data else "no",
        "Seed": str(config.seed),
    }


def _run_json(run: FinishedRun) -> dict[str, Any]:
    spec, (trained, frozen) = run.spec, run.parameters or (None, None)
    return {
        "name": run.name,
        "path": str(run.folder.path),
        "seed": run.config.seed,
        "trained_on": run.metadata.get("trained_on"),
        "data_fingerprint": run.metadata.get("data_fingerprint"),
        "backbone": run.config.image.backbone,
        "preprocessing": spec.preprocessing,
        "text_encoder": run.config.text.encoder if spec.text else None,
        "input_size": [spec.channels, spec.image_size, spec.image_size],
        "outside_data": spec.outside_data,
        "trained_parameters": trained,
        "frozen_parameters": frozen,
        "steps": run.config.optim.steps,
        "seconds": run.metadata.get("seconds"),
    }


def _notes(run: FinishedRun) -> list[str]:
    notes = [*run.metadata.get("notes", []), *(part for r in run.results for part in r.note.split("; "))]
    return list(dict.fromkeys(filter(None, notes)))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table(left: Sequence[str], right: Sequence[str], last: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for names, side in ((left, "left"), (right, "right"), (last, "left")):
        for name in names:
            table.add_column(Text(name), justify="right" if side == "right" else "left", overflow="fold")
    return table
