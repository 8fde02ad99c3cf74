"""The run folder: what a run leaves behind, and what state it is in."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from vlfew.core.config import Config, Repeat, differences, dump_config
from vlfew.core.config_file import load_config
from vlfew.core.errors import RunError
from vlfew.core.files import write_atomic
from vlfew.models.serialization import read_metadata

State = Literal["new", "unfinished", "trained", "finished"]

LOCK = ".lock"


def member_names(repeat: Repeat) -> list[str]:
    """The folders of the runs of a repeated one: `fold-1`, `fold-2` ..."""
    last = repeat.over.rpartition(".")[2]
    return [f"{last}-{value}" for value in repeat.values]


@dataclass(frozen=True)
class RunFolder:
    """`runs/<config name>/` and the files in it.

    `config.yaml` as resolved; `log.jsonl`, a line per event; `checkpoints/`; `model.safetensors` and
    `model.json` when training is done; `results.json` and `report.html` when all is. A repeated run
    holds a run folder for each of its values instead of a model.
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def members(self) -> list[RunFolder]:
        """The runs of a repeated one, in order; none for a single run."""
        if not self.config.is_file():
            return []
        repeat = load_config(self.config).repeat
        return [] if repeat is None else [RunFolder(self.path / n) for n in member_names(repeat)]

    @property
    def repeated(self) -> tuple[str, list[Any]]:
        """The key in which the runs of a repeated one differ, and its values."""
        repeat = load_config(self.config).repeat
        assert repeat is not None
        return repeat.over, repeat.values

    @property
    def state(self) -> State:
        """How far the run has come."""
        if self.results.is_file():
            return "finished"
        if (self.path / "model.json").is_file():
            return "trained"
        # Without a checkpoint nothing would be lost: a mistake in the first try claims nothing.
        return "unfinished" if any(self.checkpoints.glob("step-*.json")) else "new"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes out of the folder; let go of when the process ends, however it ends.

        Raises:
            RunError: another process is at work in it.
        """
        try:
            import fcntl
        except ImportError:  # Windows, where runs are not kept apart
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise RunError(
                        f"another process is training in {self.path}; wait for it, or give this run its own "
                        f"folder with name={self.path.name}-2"
                    ) from None
                # A file system without locks.
            yield

    def claim(self, config: Config) -> State:
        """Makes the folder this configuration's, or finds that it already is.

        What is evaluated may change until the results are there: it has no part in the training.

        Raises:
            RunError: it holds a run of another configuration; lists every difference.
        """
        state = self.state
        different = [] if state == "new" else differences(load_config(self.config), config)
        if state != "finished":
            different = [line for line in different if not line.startswith("evaluate")]
        if different:
            raise RunError(
                f"{self.path} holds the {state} run of another configuration ({'; '.join(different)}); "
                f"give this one its own folder with name={self.path.name}-2, or remove {self.path}"
            )
        if state != "finished":
            write_atomic(self.config, dump_config(config))
        return state

    def remove_if_empty(self) -> None:
        """Leaves nothing of a run that was refused before it began: neither configuration nor folder."""
        if not self.path.is_dir() or {p.name for p in self.path.iterdir()} - {self.config.name, LOCK}:
            return
        for path in self.path.iterdir():
            path.unlink()
        self.path.rmdir()

    def append_log(self, entry: dict[str, Any]) -> None:
        """One event as a line of `log.jsonl`."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """All events; a last line that a crash cut short is left out."""
        if not self.log.is_file():
            return []
        entries = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                break
        return entries

    def rewind_log(self, step: int) -> None:
        """Forgets events after `step`: a resumed run writes them again."""
        kept = [entry for entry in self.read_log() if entry.get("step", 0) <= step]
        write_atomic(self.log, "".join(json.dumps(entry) + "\n" for entry in kept))


def validation_of(run: RunFolder) -> float | None:
    """Validation accuracy of the model that was kept, the mean over the runs of a repeated one.

    None where there was no validation.

    Raises:
        RunError: the log has lost it.
    """
    if run.members:
        found = [value for value in map(validation_of, run.members) if value is not None]
        return fmean(found) if found else None
    kept = read_metadata(run.path).get("best_step")
    if kept is None:
        return None
    told = [e["validation"]["accuracy"] for e in run.read_log() if "validation" in e and e["step"] == kept]
    if not told:
        raise RunError(
            f"{run.log} has lost the validation of step {kept}; remove {run.path} to train it again"
        )
    return float(told[-1])
