"""A run by its colour and letter."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.report.finished import FinishedRun
from vlfew.report.markup import Html, element


def badge(run: FinishedRun) -> Html:
    """The run's letter on its colour."""
    return element("b", run.letter, class_=f"badge c{run.number}", title=run.name)


def named(run: FinishedRun) -> Html:
    """The badge and the name."""
    return element("span", badge(run), element("span", run.name), class_="run")


def draw_legend(runs: Sequence[FinishedRun]) -> Html:
    """Which colour is which run."""
    return element("ul", *(element("li", named(run)) for run in runs), class_="legend")
