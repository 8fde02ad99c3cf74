"""Differences between runs at the same evaluation, with confidence intervals and significance tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from vlfew.evaluation.results import Result
from vlfew.evaluation.statistics import Difference, Floats, holm, paired_difference, unpaired_difference
from vlfew.report.formatting import spaced
from vlfew.report.load_run import FinishedRun
from vlfew.report.match_results import METHOD_OPTIONS, Row, option_text, options_of

LEVEL = 0.05
"""A difference is significant when its corrected p value is below this."""


@dataclass(frozen=True)
class Comparison:
    """Two runs at one evaluation.

    Attributes:
        row: number of the evaluation.
        first, second: numbers of the runs.
        difference: accuracy of the second minus that of the first.
        episodes: how many episodes they share; None where the difference is not paired.
        why: the reason why it is not paired; "" where it is.
        corrected: p value after Holm's correction over all comparisons made together.
    """

    row: int
    first: int
    second: int
    difference: Difference
    episodes: int | None
    why: str
    corrected: float | None = None

    @property
    def significant(self) -> bool | None:
        """None where there is no test."""
        return None if self.corrected is None else self.corrected < LEVEL


def compare(runs: Sequence[FinishedRun], rows: Sequence[Row]) -> list[Comparison]:
    """All pairs of runs at all evaluations that both have, with p values corrected over all of them."""
    made = [
        _compare(runs, number, first, second)
        for number, row in enumerate(rows)
        for first, second in combinations(row.given, 2)
    ]
    corrected = iter(holm([c.difference.p for c in made if c.difference.p is not None]))
    return [replace(c, corrected=next(corrected)) if c.difference.p is not None else c for c in made]


def why_not_paired(first: Result, second: Result) -> str:
    """Why two results of one evaluation are not of the same episodes; "" when they are."""
    prints = (first.data_fingerprint, second.data_fingerprint)
    if not all(prints):
        return "data not recorded"
    if prints[0] != prints[1]:
        return f"other data: {prints[0][:8]} and {prints[1][:8]}"
    a, b = (_sampled_by(r) for r in (first, second))
    differing = [
        f"{spaced(name)} {option_text(a.get(name))} and {option_text(b.get(name))}"
        for name in sorted(a | b)
        if option_text(a.get(name)) != option_text(b.get(name))
    ]
    if differing:
        return f"other episodes: {', '.join(differing)}"
    runs = [(r.get("over"), r.get("values")) for r in (first, second)]
    if runs[0] != runs[1]:
        return "other runs: " + " and ".join(
            f"{over} {option_text(values)}" if over else "a single one" for over, values in runs
        )
    if not (_by_run_or_fold(first) or (first.per_episode and second.per_episode)):
        return "no accuracies per episode"
    return ""


def _by_run_or_fold(result: Result) -> list[float] | None:
    """Accuracies of runs or of folds, where the interval is over these: episodes of one run, or pairs of one
    fold, are not independent of each other."""
    return result.get("accuracies") or result.get("fold_accuracies")


def _compare(
    runs: Sequence[FinishedRun], row: int, first: tuple[int, Result], second: tuple[int, Result]
) -> Comparison:
    (a, one), (b, other) = first, second
    why, values = why_not_paired(one, other), []
    if not why:
        try:
            values = [_per_episode(runs[a], one), _per_episode(runs[b], other)]
        except ValueError as error:
            why = str(error)
    if values and len(values[0]) != len(values[1]):
        why = f"other episodes: {len(values[0]):,} and {len(values[1]):,}"
    if why:
        unpaired = unpaired_difference(one.accuracy, one.ci95, other.accuracy, other.ci95)
        return Comparison(row, a, b, unpaired, None, why)
    return Comparison(row, a, b, paired_difference(*values), len(values[0]), "")


def _sampled_by(result: Result) -> dict[str, Any]:
    """All that determines which episodes are sampled."""
    options = {name: value for name, value in options_of(result).items() if name not in METHOD_OPTIONS}
    return options | {"seed": result.seed, "episodes": result.episodes, "split": result.split}


def _per_episode(run: FinishedRun, result: Result) -> Floats:
    """The accuracies `[E]` that are stored in the run folder."""
    few = _by_run_or_fold(result)
    if few is not None:
        return np.array(few, dtype=np.float64)
    name = result.per_episode
    path: Path = run.folder.path / name
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise ValueError(f"{name} of {run.name} cannot be read") from None
    if not isinstance(values, np.ndarray) or values.ndim != 1 or not len(values):
        raise ValueError(f"{name} of {run.name} is not a list of accuracies")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} of {run.name} has values that are not finite")
    return values
