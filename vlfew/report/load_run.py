"""Finished runs, read from their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlfew.core.config import Config
from vlfew.core.config_file import load_saved_config
from vlfew.core.errors import RunError, did_you_mean
from vlfew.evaluation.results import Result, read_results
from vlfew.models.serialization import parameter_counts, read_metadata, read_spec
from vlfew.models.spec import ModelSpec
from vlfew.report.charts import PALETTE
from vlfew.training.run_folder import RunFolder

MOST = 8
"""Most runs on one page."""
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class FinishedRun:
    """A run with results.

    Attributes:
        number: its place on the page, from 0.
        name: the folder's name, or its path where names repeat.
        folder: the run folder.
        config: of the run.
        metadata: of the saved model; for a repeated run, metadata, model and log are those of its first run.
        spec: what the model is built from.
        parameters: how many are trained and how many frozen; None without weights.
        log: entries of `log.jsonl`.
        results: of its evaluations.
    """

    number: int
    name: str
    folder: RunFolder
    config: Config
    metadata: dict[str, Any]
    spec: ModelSpec
    parameters: tuple[int, int] | None
    log: list[dict[str, Any]] = field(repr=False)
    results: list[Result] = field(repr=False)

    @property
    def letter(self) -> str:
        """Its letter in charts."""
        return LETTERS[self.number]

    @property
    def color(self) -> str:
        """Of its curves."""
        return PALETTE[self.number]


def load_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """The runs in these folders.

    Raises:
        RunError: too many runs, a run given twice, a folder that is not a finished run.
        VlfewError: files of a run that are damaged or missing.
    """
    if len(paths) > MOST:
        raise RunError(f"one page shows at most {MOST} runs, and {len(paths)} were given; leave some out")
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise RunError(f"{path} is given more than once; give each run once")
        _check_finished(path)
    # The names of the folders where they differ, else their paths.
    names = [place.name for place in places]
    return [
        _read(number, path, name if names.count(name) == 1 else str(path))
        for number, (path, name) in enumerate(zip(paths, names, strict=True))
    ]


def _read(number: int, path: Path, name: str) -> FinishedRun:
    folder = RunFolder(path)
    # A repeated run has no model of its own; that of its first run is shown.
    shown = next(iter(folder.members), folder)
    return FinishedRun(
        number,
        name,
        folder,
        load_saved_config(folder.config),
        read_metadata(shown.path),
        read_spec(shown.path),
        parameter_counts(shown.path) if (shown.path / "model.safetensors").is_file() else None,
        shown.read_log(),
        read_results(folder.results),
    )


def _check_finished(path: Path) -> None:
    if not path.is_dir():
        near = did_you_mean(path.name, [p.parent.name for p in path.parent.glob("*/config.yaml")])
        raise RunError(f"{path}: no such folder{near}")
    run = RunFolder(path)
    if not run.config.is_file():
        raise RunError(
            f"{path} is not a run folder (it has no config.yaml); give a folder that 'vlfew train' made, "
            "such as runs/quickstart"
        )
    if run.state != "finished":
        state = "trained but not evaluated" if run.state == "trained" else "not fully trained"
        raise RunError(f"{path} has no results.json: the run is {state}; to finish it: {run.command}")
