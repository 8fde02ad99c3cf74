"""Verbs that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
) -> None:
    """Train, evaluate and report; the same command again resumes, or shows a finished run."""
    from vlfew.workflows.train import run_pipeline

    run_pipeline(config, overrides or [], runs)


def tune(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    space: Annotated[Path, typer.Option(help="YAML: keys with {low:, high:} or {choices: [...]}.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, those of earlier calls included.")] = 20,
    pruner: Annotated[
        Literal["median", "none"], typer.Option(help="Whether trials below the median are ended early.")
    ] = "median",
    seed: Annotated[int, typer.Option(help="Of the suggestions.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
) -> None:
    """Search for settings by the validation split; the same command again goes on."""
    from vlfew.workflows.train import run_search

    run_search(config, overrides or [], space, runs, trials=trials, pruner=pruner, seed=seed)
