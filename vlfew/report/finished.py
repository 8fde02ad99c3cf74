"""Finished runs, as what they left behind tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlfew.config import Config
from vlfew.config_file import load_config
from vlfew.errors import RunError, did_you_mean
from vlfew.evaluation.results import Result, read_results
from vlfew.models.saved import parameter_counts, read_about, read_spec
from vlfew.models.spec import ModelSpec
from vlfew.training.run import RunFolder

MOST = 8
"""Most runs on one page: there are so many colours."""
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class FinishedRun:
    """A run with results.

    Attributes:
        number: its place on the page, from 0; its colour.
        name: tells it from the others.
        folder: where it is.
        config: of the run.
        about: what the saved model says about its training; this, the model and the log of a repeated
            run are those of the first of its runs.
        spec: what the model is built from.
        parameters: how many were trained, and how many frozen; None when the weights are gone.
        log: entries of `log.jsonl`.
        results: its figures.
    """

    number: int
    name: str
    folder: RunFolder
    config: Config
    about: dict[str, Any]
    spec: ModelSpec
    parameters: tuple[int, int] | None
    log: list[dict[str, Any]] = field(repr=False)
    results: list[Result] = field(repr=False)

    @property
    def letter(self) -> str:
        """Short for its name, where there is little room."""
        return LETTERS[self.number]


def read_finished(paths: Sequence[Path]) -> list[FinishedRun]:
    """The runs in these folders. Runs of one name are called by their paths.

    Raises:
        RunError: too many, one given twice, a folder that is no run or not a finished one.
        VlfewError: files of a run that are damaged or missing.
    """
    if len(paths) > MOST:
        raise RunError(f"one page shows at most {MOST} runs, and {len(paths)} were given; leave some out")
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise RunError(f"{path} is given more than once; give each run once")
        _require_finished(path)
    names = [place.name for place in places]
    return [
        _read(number, path, name if names.count(name) == 1 else str(path))
        for number, (path, name) in enumerate(zip(paths, names, strict=True))
    ]


def _read(number: int, path: Path, name: str) -> FinishedRun:
    folder = RunFolder(path)
    # A repeated run has no model of its own; the first of its runs stands for them all.
    shown = next(iter(folder.members), folder)
    return FinishedRun(
        number,
        name,
        folder,
        load_config(folder.config),
        read_about(shown.path),
        read_spec(shown.path),
        parameter_counts(shown.path) if (shown.path / "model.safetensors").is_file() else None,
        shown.read_log(),
        read_results(folder.results),
    )


def _require_finished(path: Path) -> None:
    if not path.is_dir():
        near = did_you_mean(path.name, [p.parent.name for p in path.parent.glob("*/config.yaml")])
        raise RunError(f"{path}: no such folder{near}")
    run = RunFolder(path)
    if not run.config.is_file():
        raise RunError(
            f"{path} is no run (it has no config.yaml); a run is a folder that 'vlfew train' made, "
            "such as runs/quickstart"
        )
    if run.state != "finished":
        said = "trained, but not evaluated" if run.state == "trained" else "not trained to its end"
        raise RunError(
            f"{path} has no results.json: it is {said}; to finish it: "
            f"vlfew train {run.config} --runs {path.parent}"
        )
