"""A hyperparameter search as a page and as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from vlfew.core.files import write_atomic
from vlfew.core.plurals import counted
from vlfew.report.charts import GRAY, PALETTE, Axis, Chart, Series, draw_chart
from vlfew.report.formatting import percent
from vlfew.report.page import render
from vlfew.training.run_folder import RunFolder
from vlfew.training.tune.search_space import Choices, Range, text_of
from vlfew.training.tune.study import STARTUP, Importances, Trial

if TYPE_CHECKING:
    from vlfew.workflows.search import Search

SHOWN = 10
"""Most trials in the table for the terminal."""
REACH = 4
"""Charts reach this many times as far below the best trial as the median does; lower trials are at the edge."""
ROOM = 0.05
"""Margin at the ends of the axis of a setting, as a share of its length."""
LETTERS = 24
"""Most letters of the name of a choice."""
STATES = ("finished", "pruned", "failed", "unfinished")
LOOKS: dict[str, dict[str, Any]] = {
    "pruned": {"color": GRAY, "marker": "circle", "hollow": True},
    "finished": {"color": PALETTE[0], "marker": "circle"},
    "as configured": {"color": PALETTE[2], "marker": "diamond", "size": 13},
    "best": {"color": PALETTE[1], "marker": "star", "size": 15},
}
"""Points of the charts, the most important last, in front."""


@dataclass(frozen=True)
class SearchResult:
    """A search and its trials.

    Attributes:
        search: its settings.
        trials: those that are done, and one that was interrupted.
        best: of the finished ones.
        importances: of the settings, or why they are not known.
        evaluate: the command that evaluates the best trial.
    """

    search: Search
    trials: Sequence[Trial]
    best: Trial | None
    importances: Importances | str
    evaluate: str

    def is_best(self, trial: Trial) -> bool:
        return self.best is not None and trial.number == self.best.number

    @property
    def counts(self) -> str:
        """`20 trials: 14 finished, 5 pruned, 1 failed`."""
        states = [t.state for t in self.trials]
        parts = (f"{states.count(state)} {state}" for state in STATES if state in states)
        return f"{counted(len(states), 'trial')}: {', '.join(parts)}"

    @property
    def warning(self) -> str:
        """How to take the accuracy of the best trial."""
        return (
            f"The best of {counted(len(self.trials), 'trial')} was chosen on the validation split, so its accuracy "
            "there is optimistic. Evaluate it on the test split, which no trial has seen."
        )


def write_tune_report(searched: SearchResult) -> Path:
    """Writes `tuning.html`, one self-contained page, into the folder of the search."""
    search, path = searched.search, searched.search.path / "tuning.html"
    known, measured = searched.importances, any(t.accuracy is not None for t in searched.trials)
    sections = {
        "Best trial": {"searched": searched, "text_of": text_of}
        if searched.best
        else "No trial finished its training.",
        "History": _history(searched) if measured else None,
        "Importance": f"Importances are not known yet: {known}." if isinstance(known, str) else known,
        "Settings": _settings(searched) if measured else None,
        "Trials": _trials(searched),
    }
    write_atomic(path, render("tune", f"{search.path.name}: a vlfew search", _header(searched), sections))
    return path


def search_table(searched: SearchResult) -> Table:
    """For the terminal: the best trials, the best one first, each set of values once."""
    keys = list(searched.search.space)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", "validation %", "saved at step"):
        table.add_column(name, justify="right", no_wrap=True)
    for key in keys:
        table.add_column(Text(key), justify="right", overflow="fold")
    finished = [t for t in searched.trials if t.state == "finished" and t.duplicate_of is None]
    finished.sort(key=lambda t: (-(t.accuracy or 0.0), t.number))
    for trial in finished[:SHOWN]:
        cells = (str(trial.number), percent(trial.accuracy or 0.0), f"{_best_step(trial):,}")
        table.add_row(*map(Text, (*cells, *(text_of(trial.values[key]) for key in keys))))
    return table


def _header(searched: SearchResult) -> dict[str, Any]:
    search = searched.search
    configured = next((t for t in searched.trials if t.as_configured and t.state == "finished"), None)
    logs = (search.run_of(t).read_log() for t in searched.trials if t.curve)
    protocols = (e["validation"]["protocol"] for log in logs for e in log if "validation" in e)
    return {
        "searched": searched,
        "headlines": {"Best": searched.best, "As configured": configured},
        "protocol": next(protocols, "nothing"),
        "startup": STARTUP,
        "seconds": sum(_seconds(search.run_of(t)) for t in searched.trials if t.duplicate_of is None),
    }


def _history(searched: SearchResult) -> dict[str, Any]:
    """The accuracy of each trial and the best so far; and the validation curves of all trials."""
    floor = _floor(searched.trials)
    x: list[float] = []
    y: list[float] = []
    for trial in searched.trials:
        if trial.state == "finished" and (trial.accuracy or 0.0) > (y[-1] if y else -1):
            x.append(float(trial.number))
            y.append(trial.accuracy or 0.0)
    best = []
    if y:
        last = float(max(t.number for t in searched.trials))
        best = [
            Series(f"best so far {percent(y[-1], 1)}%", [*x, last], [*y, y[-1]], PALETTE[1], line="steps")
        ]
    dots = _dots(searched, lambda t: float(t.number), searched.trials)
    charts = [draw_chart("Validation accuracy of each trial", best + dots, Axis("trial"), percents=True)]
    curves = []
    # The best one last, in front of the others.
    for trial in sorted(searched.trials, key=searched.is_best):
        if len(trial.curve) > 1 and trial.duplicate_of is None:
            own = searched.is_best(trial)
            text = [f"step {step:,}: {percent(value)}%" for step, value in trial.curve.items()]
            color = PALETTE[1] if own else GRAY if trial.state == "pruned" else PALETTE[0]
            values = [max(value, floor) for value in trial.curve.values()]
            steps = list(map(float, trial.curve))
            look = {"marker": "circle"} if own else {"alpha": 0.35}
            curves.append(Series(f"trial {trial.number}", steps, values, color, text, **look))
    if curves:
        title = "Validation accuracy during training"
        charts.append(draw_chart(title, curves, percents=True, legend=False))
    below = any(value < floor for t in searched.trials for value in [t.accuracy or 1.0, *t.curve.values()])
    return {"charts": charts, "below": below}


def _settings(searched: SearchResult) -> list[Chart]:
    """A chart for each setting: its values against the accuracy."""
    trials = [t for t in searched.trials if t.duplicate_of is None]
    charts: list[Chart] = []
    for key, dimension in searched.search.space.items():
        names = _choice_names(dimension) if isinstance(dimension, Choices) else {}

        def place(trial: Trial, key: str = key, names: dict[str, str] = names) -> float | str:
            return names[str(trial.values[key])] if names else float(trial.values[key])

        log = isinstance(dimension, Range) and dimension.log
        span: dict[str, Any] = {}
        if isinstance(dimension, Range):
            low, high = float(dimension.low), float(dimension.last)
            room = (high / low) ** ROOM if log else ROOM * (high - low)
            span = {"x_range": (low / room, high * room) if log else (low - room, high + room)}
        axis = Axis("", log=log, categories=list(names.values()))
        charts.append(draw_chart(key, _dots(searched, place, trials, key), axis, percents=True, **span))
    return charts


def _trials(searched: SearchResult) -> dict[str, Any]:
    search = searched.search
    rows = [
        {
            "trial": trial,
            "page": _page(searched, trial),
            "best": searched.is_best(trial),
            "state": _state(trial),
            "values": [text_of(trial.values[key]) for key in search.space],
            "seconds": None if trial.duplicate_of else _seconds(search.run_of(trial)),
        }
        for trial in searched.trials
    ]
    return {"space": list(search.space), "rows": rows}


def _state(trial: Trial) -> tuple[str, str]:
    """`pruned at step 300`, and details."""
    if trial.duplicate_of is not None:
        return f"{trial.state}, as trial {trial.duplicate_of}", "the same values, not trained again"
    if trial.state == "failed":
        return "failed", trial.why
    if trial.state == "finished":
        return "finished", f"saved at step {_best_step(trial):,}" + ("; as configured" * trial.as_configured)
    return (f"{trial.state} at step {max(trial.curve):,}" if trial.curve else trial.state), ""


def _dots(searched: SearchResult, place: Any, trials: Sequence[Trial], key: str = "") -> list[Series]:
    """The trials as points at `(place(trial), accuracy)`, one series for each look."""
    floor, series = _floor(searched.trials), []
    for name, look in LOOKS.items():
        own = [t for t in trials if t.accuracy is not None and _look(searched, t) == name]
        if not own:
            continue
        values = [f", {key}={text_of(t.values[key])}" if key else "" for t in own]
        text = [
            f"trial {t.number}: {percent(t.accuracy or 0.0)}%, {t.state}{value}"
            for t, value in zip(own, values, strict=True)
        ]
        y = [max(t.accuracy or 0.0, floor) for t in own]
        pages = {"page": [_page(searched, t) or "" for t in own]}
        series.append(Series(name, [place(t) for t in own], y, text=text, line="", columns=pages, **look))
    return series


def _look(searched: SearchResult, trial: Trial) -> str:
    if searched.is_best(trial):
        return "best"
    return "pruned" if trial.state != "finished" else "as configured" if trial.as_configured else "finished"


def _choice_names(choices: Choices) -> dict[str, str]:
    """Short names of the choices, all different."""
    names: dict[str, str] = {}
    for text in choices.texts:
        short = re.sub(r'[][{}"]', "", text)
        short = short if len(short) <= LETTERS else short[: LETTERS - 1] + "…"
        names[text] = short if short not in names.values() else f"{short} ({len(names) + 1})"
    return names


def _floor(trials: Sequence[Trial]) -> float:
    """Where charts end below: one bad trial must not squeeze the others together."""
    found = [t.accuracy for t in trials if t.accuracy is not None]
    finished = [t.accuracy for t in trials if t.accuracy is not None and t.state == "finished"] or found
    top = max(found)
    return max(0.0, top - REACH * max(top - median(finished), 0.02))


def _page(searched: SearchResult, trial: Trial) -> str | None:
    """The page of its run, relative to the page of the search."""
    run = searched.search.run_of(trial)
    return f"{run.path.name}/{run.report.name}" if run.report.is_file() else None


def _best_step(trial: Trial) -> int:
    """The step of its best validation, the first of equals."""
    return max(trial.curve, key=lambda step: (trial.curve[step], -step))


def _seconds(run: RunFolder) -> float:
    """Training time; 0 when its log is gone."""
    return max((entry.get("seconds", 0.0) for entry in run.read_log()), default=0.0)
