"""A search on one page, and in a table for the terminal: what was tried, what came of it, what mattered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table
from rich.text import Text

from vlfew.core.files import write_atomic
from vlfew.report.charts import Axis, Dot, Line, line_chart, ratio_ticks, ticks
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.page import write_page
from vlfew.report.formatting import counted, duration, percent
from vlfew.training.run_folder import RunFolder
from vlfew.training.tune.search_space import Choices, Range, text_of
from vlfew.training.tune.study import STARTUP, Importances, Trial
from vlfew.workflows.tune import Search

SHOWN = 10
"""Most trials in the table for the terminal."""
REACH = 4
"""A chart goes down from the best so many times as far as to the median; what is lower stands at its edge."""
ROOM, STEPS = 0.03, 8
"""Of an axis, left beside its ends; and the most steps that have a tick each."""
LETTERS = 56
"""As many have room under a chart."""
STATES = ("finished", "pruned", "failed", "unfinished")


@dataclass(frozen=True)
class Searched:
    """A search and its trials.

    Attributes:
        search: what was asked.
        trials: those that are done, and one that was interrupted.
        best: of the finished ones.
        importances: what mattered, or why that is not known.
        evaluate: the command line that evaluates the best one in its own folder.
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
        found = [t.state for t in self.trials]
        parts = (f"{found.count(state)} {state}" for state in STATES if state in found)
        return f"{counted(len(found), 'trial')}: {', '.join(parts)}"

    @property
    def warning(self) -> str:
        """What the best figure is not."""
        return (
            f"The best of {counted(len(self.trials), 'trial')} on the validation split that it was chosen by: such a "
            "figure flatters. What the settings are worth is told by the test split, which no trial was measured on."
        )


def write_tuned(searched: Searched) -> Path:
    """Writes `tuning.html`, one self-contained page, into the folder of the search."""
    name, path = searched.search.path.name, searched.search.path / "tuning.html"
    charts = [t for t in searched.trials if t.accuracy is not None]
    parts: dict[str, Html | None] = {
        "Best trial": _draw_best(searched),
        "History": _draw_history(searched) if charts else None,
        "Importance": _draw_importances(searched.importances),
        "Settings": _draw_slices(searched) if charts else None,
        "Trials": _draw_trials(searched),
    }
    shown = {title: part for title, part in parts.items() if part}
    write_atomic(path, write_page(f"{name}: a vlfew search", _draw_head(searched), shown))
    return path


def search_table(searched: Searched) -> Table:
    """For the terminal: the best trials, the best one first."""
    keys = list(searched.search.space)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", "validation %", "kept at step"):
        table.add_column(name, justify="right", no_wrap=True)
    for key in keys:
        table.add_column(Text(key), justify="right", overflow="fold")
    # The same values are not listed twice.
    finished = [t for t in searched.trials if t.state == "finished" and t.twin is None]
    finished.sort(key=lambda t: (-(t.accuracy or 0.0), t.number))
    for trial in finished[:SHOWN]:
        cells = (str(trial.number), percent(trial.accuracy or 0.0), f"{_best_step(trial):,}")
        values = (text_of(trial.values[key]) for key in keys)
        table.add_row(*map(Text, (*cells, *values)))
    return table


def _draw_head(searched: Searched) -> Html:
    search, best = searched.search, searched.best
    configured = next((t for t in searched.trials if t.as_configured), None)
    headlines = []
    if best is not None:
        headlines.append(_headline("Best", f"trial {best.number}", best.accuracy))
    if configured is not None and configured.state == "finished":
        headlines.append(_headline("As configured", f"trial {configured.number}", configured.accuracy))
    seconds = sum(_seconds(search.run_of(t)) for t in searched.trials if t.twin is None)
    facts = {
        "Configuration": " ".join([str(search.config_file), *search.overrides]),
        "Trials": searched.counts,
        "Measured": f"{_protocol(searched)} on the validation split",
        "Suggestions": f"TPE; at random up to the {STARTUP}th",
        "Pruning": search.pruner,
        "Seed of the search": str(search.seed),
        "Training time": duration(seconds),
    }
    pairs = (element("div", element("dt", label), element("dd", said)) for label, said in facts.items())
    lead = (
        f"{counted(len(search.space), 'setting')} of {search.config_file.name}, tried in {searched.counts}."
    )
    return element(
        "header",
        element("p", "vlfew search", class_="kicker"),
        element("h1", search.path.name),
        element("p", lead, class_="lead"),
        element("div", *headlines, class_="headlines") if headlines else None,
        element("ul", element("li", searched.warning), class_="notes") if best else None,
        element("dl", *pairs),
    )


def _headline(title: str, setting: str, accuracy: float | None) -> Html:
    return element(
        "div",
        element("h3", title),
        element("p", setting, class_="setting"),
        element("p", percent(accuracy or 0.0, 1), element("small", "%"), class_="number"),
        element("p", "on validation", class_="aside"),
        class_="headline",
    )


def _draw_best(searched: Searched) -> Html:
    best = searched.best
    if best is None:
        return paragraph("No trial was trained to its end.")
    configured = searched.search.as_configured()
    columns = ["setting", "best", "as configured"] if configured else ["setting", "best"]
    rows = [
        element(
            "tr",
            element("td", key),
            element("td", element("b", text_of(value))),
            element("td", text_of(configured[key])) if configured else None,
        )
        for key, value in best.values.items()
    ]
    head = element("tr", *(element("th", name) for name in columns))
    table = element("table", element("thead", head), element("tbody", *rows), class_="side-by-side settings")
    return join(
        paragraph(f"The settings of trial {best.number}, and the commands that tell what they are worth."),
        element(
            "div",
            element("div", table, class_="scroll"),
            _command(
                "Trains it anew and evaluates it as the configuration says", searched.search.command(best)
            ),
            _command("Evaluates the trial's own model", searched.evaluate),
            class_="card",
        ),
    )


def _command(said: str, command: str) -> Html:
    return join(element("p", said, class_="aside"), element("pre", element("code", command)))


def _draw_history(searched: Searched) -> Html:
    """The best so far, trial by trial; and how each trial came to its accuracy."""
    floor = _floor(searched.trials)
    x: list[float] = []
    y: list[float] = []
    for trial in searched.trials:
        if trial.state == "finished" and trial.accuracy is not None and trial.accuracy > (y[-1] if y else -1):
            # A step, not a slope: the best is what it was until a better one is there.
            x, y = (
                [*x, *([float(trial.number)] if y else []), float(trial.number)],
                [*y, *y[-1:], trial.accuracy],
            )
    last = float(max(t.number for t in searched.trials))
    charts = []
    best = (
        [Line([*x, last], [*(max(v, floor) for v in y), y[-1]], f"best {percent(y[-1], 1)}%", 1)] if y else []
    )
    whole = [float(n) for n in sorted({round(1 + k * (last - 1) / 5) for k in range(6)})]
    axis = Axis("trial", at=whole, zero=False, span=(0.5, last + 0.5))
    dots = [_dot(searched, t, float(t.number), floor) for t in _in_front(searched)]
    charts.append(
        line_chart("Validation accuracy of each trial", best, dots=dots, x_axis=axis, y_text=_percents)
    )
    curves = [
        Line(
            list(map(float, t.curve)),
            [max(v, floor) for v in t.curve.values()],
            f"trial {t.number}" if searched.is_best(t) else "",
            1 if searched.is_best(t) else None if t.state == "pruned" else 0,
            dots=searched.is_best(t),
            faint=not searched.is_best(t),
        )
        # The best in front of the others.
        for t in sorted(searched.trials, key=searched.is_best)
        if len(t.curve) > 1 and t.twin is None
    ]
    if curves:
        charts.append(line_chart("Validation accuracy in training", curves, y_text=_percents))
    lower = any((t.accuracy or 0.0) < floor for t in searched.trials) or any(
        v < floor for t in searched.trials for v in t.curve.values()
    )
    edge = " What is lower than the charts reach stands at their lower edge." if lower else ""
    lead = paragraph(
        "A finished trial counts with its best validation, which is that of the model it kept; a pruned one stands "
        f"where it had come. Each point leads to the page of its trial, where there is one.{edge}"
    )
    return join(lead, _key(searched), element("div", *charts, class_="charts"))


def _draw_importances(found: Importances | str) -> Html:
    if isinstance(found, str):
        return paragraph(f"What mattered cannot be told yet: {found}.")
    most = max(found.shares.values()) or 1.0
    rows = [
        element(
            "li",
            element("code", key),
            element("div", element("i", style=f"width:{100 * share / most:.2f}%"), class_="bar"),
            element("span", f"{percent(share, 0)}%", class_="number"),
        )
        for key, share in found.shares.items()
    ]
    lead = paragraph(
        f"How much each setting tells the best {found.good} of the {found.finished} finished trials from the rest, all "
        "together 100% (PED-ANOVA, Watanabe et al. 2023). A search tries what is promising most often, and few "
        "trials tell little: a hint at what is worth a closer look, not a measurement."
    )
    return join(lead, element("ul", *rows, class_="shares card"))


def _draw_slices(searched: Searched) -> Html:
    """A chart for each setting: its values against the accuracy."""
    floor = _floor(searched.trials)
    shown = [t for t in _in_front(searched) if t.twin is None]
    charts = []
    for key, dimension in searched.search.space.items():
        dots = [_dot(searched, t, _place(dimension, t.values[key]), floor, key) for t in shown]
        charts.append(line_chart(key, [], dots=dots, x_axis=_axis(dimension), y_text=_percents))
    lead = paragraph(
        "Each setting against the validation accuracy; the other settings vary from point to point."
    )
    return join(lead, _key(searched), element("div", *charts, class_="charts"))


def _draw_trials(searched: Searched) -> Html:
    keys = list(searched.search.space)
    names = ("trial", "validation, %", "state", *keys, "time")
    style = ["", "number", "", *("number" for _ in keys), "number"]
    head = element("tr", *(element("th", n, class_=s or None) for n, s in zip(names, style, strict=True)))
    rows = []
    for trial in searched.trials:
        page = _page(searched, trial)
        seconds = "" if trial.twin else duration(_seconds(searched.search.run_of(trial)))
        rows.append(
            element(
                "tr",
                element("td", element("a", str(trial.number), href=page) if page else str(trial.number)),
                element("td", "–" if trial.accuracy is None else percent(trial.accuracy), class_="number"),
                element("td", *_state(trial), class_="state"),
                *(element("td", text_of(trial.values[key]), class_="number") for key in keys),
                element("td", seconds, class_="number"),
                class_="best" if searched.is_best(trial) else None,
            )
        )
    table = element("table", element("thead", head), element("tbody", *rows), class_="trials")
    lead = paragraph(
        "Every trial is a run folder of its own, and can be reported on and evaluated as any run. Of a pruned one the "
        "accuracy is the best until it was ended. A number leads to the page of the run."
    )
    return join(lead, element("div", table, class_="card scroll"))


def _state(trial: Trial) -> list[Html | str]:
    """In words: `pruned at step 300`, `as trial 2`."""
    if trial.twin is not None:
        return [
            f"{trial.state}, as trial {trial.twin}",
            element("small", "the same values, not trained again"),
        ]
    if trial.state == "failed":
        return ["failed", element("small", trial.why)]
    if trial.state == "finished":
        told = f"kept at step {_best_step(trial):,}"
        return ["finished", element("small", f"{told}; as configured" if trial.as_configured else told)]
    return [f"{trial.state} at step {max(trial.curve):,}" if trial.curve else trial.state]


def _in_front(searched: Searched) -> list[Trial]:
    """The trials that have an accuracy, what matters most last."""
    shown = [t for t in searched.trials if t.accuracy is not None]
    return sorted(shown, key=lambda t: (t.state == "finished", t.as_configured, searched.is_best(t)))


def _dot(searched: Searched, trial: Trial, x: float, floor: float, key: str | None = None) -> Dot:
    accuracy = trial.accuracy or 0.0
    style = "best" if searched.is_best(trial) else "pruned" if trial.state != "finished" else ""
    if trial.as_configured and style == "":
        style = "configured"
    value = "" if key is None else f", {key}={text_of(trial.values[key])}"
    label = f"trial {trial.number}: {percent(accuracy)}%, {trial.state}{value}"
    return Dot(x, max(accuracy, floor), label, style, _page(searched, trial))


def _key(searched: Searched) -> Html:
    """What the points of the charts are."""
    dots = {"best": "best", "": "finished", "configured": "as configured", "pruned": "pruned"}
    drawn = {_dot(searched, t, 0, 0).style for t in searched.trials if t.accuracy is not None}
    items = (
        element(
            "li",
            element("svg", element("circle", cx=7, cy=7, r=5, class_=f"dot {s}"), viewBox="0 0 14 14"),
            said,
        )
        for s, said in dots.items()
        if s in drawn
    )
    return element("ul", *items, class_="key")


def _axis(dimension: Range | Choices) -> Axis:
    if isinstance(dimension, Choices):
        texts = [re.sub(r'[][{}"]', "", text) for text in dimension.texts]
        most = max(4, LETTERS // len(texts))
        texts = [t if len(t) <= most else t[: most - 1] + "…" for t in texts]
        return Axis("", lambda x: texts[round(x)], range(len(texts)), span=(-0.5, len(texts) - 0.5))
    low, high = float(dimension.low), float(dimension.last)
    if dimension.log:
        room = (high / low) ** ROOM
        return Axis("", "{:g}".format, ratio_ticks(low, high), log=True, span=(low / room, high * room))
    room, at = ROOM * (high - low), []
    if dimension.step is not None and (high - low) / dimension.step < STEPS:
        at = [low + n * dimension.step for n in range(round((high - low) / dimension.step) + 1)]
    return Axis("", "{:g}".format, at or ticks(low, high), zero=False, span=(low - room, high + room))


def _place(dimension: Range | Choices, value: int | float | str) -> float:
    return float(dimension.texts.index(str(value))) if isinstance(dimension, Choices) else float(value)


def _floor(trials: Sequence[Trial]) -> float:
    """What the charts reach down to: one trial that failed must not press the others into a line."""
    found = [t.accuracy for t in trials if t.accuracy is not None]
    finished = [t.accuracy for t in trials if t.accuracy is not None and t.state == "finished"] or found
    top = max(found)
    return max(0.0, top - REACH * max(top - median(finished), 0.02))


def _page(searched: Searched, trial: Trial) -> str | None:
    """Where the page of its run is, from the page of the search."""
    run = searched.search.run_of(trial)
    return f"{run.path.name}/{run.report.name}" if run.report.is_file() else None


def _best_step(trial: Trial) -> int:
    """The step of its best validation, the first of equals."""
    return max(trial.curve, key=lambda step: (trial.curve[step], -step))


def _seconds(run: RunFolder) -> float:
    """How long it was trained; 0 when its log is gone."""
    return max((entry.get("seconds", 0.0) for entry in run.read_log()), default=0.0)


def _protocol(searched: Searched) -> str:
    """By which the trials were compared."""
    logs = (searched.search.run_of(t).read_log() for t in searched.trials if t.curve)
    return next((e["validation"]["protocol"] for log in logs for e in log if "validation" in e), "nothing")


def _percents(fraction: float) -> str:
    return f"{100 * fraction:g}%"
