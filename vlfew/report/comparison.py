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

from vlfew.core.config_diff import flat_values
from vlfew.core.errors import RunError
from vlfew.core.files import write_atomic
from vlfew.core.plurals import counted
from vlfew.report.charts import GRAY
from vlfew.report.formatting import accuracy, option_value, percent, title, unique_notes
from vlfew.report.load_run import FinishedRun, load_runs
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
SAME_CONFIGURATION = "The runs have the same training configuration."
NOT_TRAINING = ("name", "evaluate")
"""Sections of a configuration that do not affect the training."""


@dataclass(frozen=True)
class RunComparison:
    """Runs, the evaluations they share, and the differences of their results."""

    runs: list[FinishedRun]
    rows: list[Row]
    comparisons: list[Comparison]

    @property
    def notes(self) -> list[str]:
        """What readers must know, each note with the run that it is of."""
        return [
            f"{run.name}: {note}"
            for run in self.runs
            for note in unique_notes([*run.metadata.get("notes", []), *(r.note for r in run.results)])
        ]

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


def compare_runs(paths: Sequence[Path]) -> RunComparison:
    """Reads finished runs and compares each pair of them.

    Raises:
        VlfewError: a folder that is not a finished run, or damaged; several runs without a common evaluation.
    """
    runs = load_runs(paths)
    rows = match([run.results for run in runs])
    if len(runs) > 1 and all(len(row.given) < 2 for row in rows):
        own = "; ".join(f"{r.name} has {', '.join(map(title, r.results)) or 'no results'}" for r in runs)
        raise RunError(
            f"these runs have no evaluation in common, so there is nothing to compare: {own}; give runs with the same "
            "evaluations, or each run alone"
        )
    return RunComparison(runs, rows, compare(runs, rows))


def write_comparison(compared: RunComparison, out: Path) -> None:
    """Writes one self-contained page."""
    runs, rows, several = compared.runs, compared.rows, len(compared.runs) > 1
    drawn = [(row.title, [Drawn(r, runs[n].letter, runs[n].color) for n, r in row.given]) for row in rows]
    keys, settings = _differing_settings(runs)
    configuration = {"runs": runs, "keys": keys, "settings": settings}
    sections = {
        "Results": _results(compared) if rows else "No evaluation was run.",
        "Differences": _differences(compared) if several else None,
        "Verification": curve_section(drawn),
        "Shots": overlay_shots(runs, rows),
        "Training": overlay_training(runs),
        "Configuration": (configuration if keys else SAME_CONFIGURATION) if several else None,
    }
    names = [run.name for run in runs]
    heading = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    heading = heading if len(runs) <= NAMES else f"{len(runs)} runs"
    header = {"heading": heading, "summary": compared.summary, "runs": runs, "notes": compared.notes}
    write_atomic(out, render("comparison", heading, header, sections))


def write_comparison_json(compared: RunComparison, path: Path) -> None:
    """Writes results and differences as JSON; fractions, not percent."""
    names = [run.name for run in compared.runs]
    evaluations = [
        {key: getattr(row.first, key) for key in ("protocol", "data", "split")} | {"setting": row.setting}
        for row in compared.rows
    ]
    results = [{"results": {names[n]: r.model_dump() for n, r in row.given}} for row in compared.rows]
    differences = [
        evaluations[c.row]
        | {"first": names[c.first], "second": names[c.second], "difference": c.difference.mean}
        | {"ci95": c.difference.ci95, "p": c.difference.p, "p_holm": c.corrected}
        | {"paired": c.episodes is not None, "episodes": c.episodes, "why_not_paired": c.why}
        for c in compared.comparisons
    ]
    content = {
        "runs": [_run_json(run) for run in compared.runs],
        "results": [one | own for one, own in zip(evaluations, results, strict=True)],
        "differences": differences,
    }
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def comparison_tables(compared: RunComparison) -> list[Table]:
    """For the terminal: results side by side and, where they are few, the differences."""
    runs, rows, comparisons = compared.runs, compared.rows, compared.comparisons
    results = _table(["protocol", "data/split", "setting"], [run.name for run in runs])
    for number, row in enumerate(rows):
        ranks, first = ranking(row, at_row(comparisons, number)), row.first
        cells = [
            "-" if r is None else f"{MARKS[ranks[n]]} {accuracy(r)}".strip()
            for n, r in enumerate(row.results)
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


def _results(compared: RunComparison) -> dict[str, Any]:
    """A row for each evaluation: with each run's result, mark and differing options of the method."""
    rows = []
    for number, row in enumerate(compared.rows):
        ranks, methods = ranking(row, at_row(compared.comparisons, number)), iter(method_differences(row))
        cells = [r and (r, MARKS[ranks[n]], next(methods)) for n, r in enumerate(row.results)]
        rows.append((row, cells))
    return {"runs": compared.runs, "rows": rows}


def _differences(compared: RunComparison) -> dict[str, Any]:
    """Each difference with its interval and test, evaluation by evaluation."""
    runs, blocks = compared.runs, []
    for number, row in enumerate(compared.rows):
        found = at_row(compared.comparisons, number)
        reach = max([abs(c.difference.mean) + (c.difference.ci95 or 0) for c in found], default=0) or 1.0
        lines = [
            {
                "comparison": c,
                "pair": (runs[c.second], runs[c.first]),
                "whisker": _whisker(c, reach, runs[c.second if c.difference.mean > 0 else c.first]),
                "points": points(c),
                "p": [probability(c.difference.p), probability(c.corrected)],
                "pairing": pairing(c, row),
            }
            for c in found
        ]
        blocks += [{"title": row.title, "lines": lines, "open": len(found) <= OPEN}] if found else []
    tested = sum(c.corrected is not None for c in compared.comparisons)
    return {"blocks": blocks, "tested": tested, "level": LEVEL}


def _whisker(c: Comparison, reach: float, better: FinishedRun) -> dict[str, Any]:
    """A difference and its interval as percentages of a line that reaches `reach` to both sides of zero."""
    d, half = c.difference, c.difference.ci95 or 0.0
    middle, low, width = 50 + 48 * d.mean / reach, 50 + 48 * (d.mean - half) / reach, 96 * half / reach
    color = better.color if c.significant else GRAY
    return {"middle": f"{middle:.1f}", "low": f"{low:.1f}", "width": f"{width:.1f}", "color": color}


def _differing_settings(runs: Sequence[FinishedRun]) -> tuple[list[str], list[dict[str, str]]]:
    """Keys of the settings of training that differ, and all settings of each run."""
    settings = [
        {
            k: option_value(v)
            for k, v in flat_values(run.config).items()
            if k.partition(".")[0] not in NOT_TRAINING
        }
        for run in runs
    ]
    keys = dict.fromkeys(k for own in settings for k in own)
    return [k for k in keys if len({own.get(k) for own in settings}) > 1], settings


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


def _table(left: Sequence[str], right: Sequence[str], last: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for names, side in ((left, "left"), (right, "right"), (last, "left")):
        for name in names:
            table.add_column(Text(name), justify="right" if side == "right" else "left", overflow="fold")
    return table
