"""The run folder: the files of a run, and how far it is."""

from __future__ import annotations

import errno
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from vlfew.core.config import Config, RepeatConfig
from vlfew.core.config_diff import config_differences
from vlfew.core.config_file import dump_config, load_saved_config
from vlfew.core.errors import RunError
from vlfew.core.files import append_line, write_atomic, write_errors
from vlfew.models.serialization import read_metadata

State = Literal["new", "unfinished", "trained", "finished"]

LOCK = ".lock"


def member_names(repeat: RepeatConfig) -> list[str]:
    """The folders of the members of a repeated run: `fold-1`, `fold-2` ..."""
    last = repeat.over.rpartition(".")[2]
    return [f"{last}-{value}" for value in repeat.values]


@dataclass(frozen=True)
class RunFolder:
    """`runs/<config name>/` and the files in it.

    `config.yaml` as resolved; `log.jsonl`, a line per event; `checkpoints/`; `model.safetensors` and `model.json` once
    training is done; `results.json` and `report.html` at the end. A repeated run holds a run folder for each of its
    values instead of a model.
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
        """The runs of a repeated run, in order; empty for a single run."""
        if not self.config.is_file():
            return []
        repeat = load_saved_config(self.config).repeat
        return [] if repeat is None else [RunFolder(self.path / n) for n in member_names(repeat)]

    @property
    def repeated(self) -> tuple[str, list[Any]]:
        """The key in which the members of a repeated run differ, and its values."""
        repeat = load_saved_config(self.config).repeat
        assert repeat is not None
        return repeat.over, repeat.values

    @property
    def state(self) -> State:
        """How far the run is."""
        if self.results.is_file():
            return "finished"
        if (self.path / "model.json").is_file():
            return "trained"
        # Without a checkpoint nothing would be lost: the folder is free for another configuration.
        return "unfinished" if any(self.checkpoints.glob("step-*.json")) else "new"

    @property
    def command(self) -> str:
        """The command that goes on with the run where its folder lies now, under its name now."""
        config = load_saved_config(self.config)
        # The name of a member of a repeated run is a path: `study/fold-1`.
        depth = len(Path(config.name).parts)
        moved = list(self.path.absolute().parts[-depth:]) != list(Path(config.name).parts)
        runs = self.path.parent if moved else Path(*self.path.parts[:-depth])
        return f"vlfew train {shlex.quote(str(self.config))} --runs {shlex.quote(str(runs))}" + (
            f" name={shlex.quote(self.path.name)}" if moved else ""
        )

    @property
    def kept(self) -> str:
        """What a training that cannot write its files leaves, and how it goes on."""
        state, again = self.state, "run the same command again to"
        if state in ("trained", "finished"):
            return f"the trained model is kept in {self.path}; {again} evaluate it"
        if state == "new":
            return f"no checkpoint was saved yet; {again} train"
        steps = [int(path.stem.removeprefix("step-")) for path in self.checkpoints.glob("step-*.json")]
        return f"the checkpoint of step {max(steps)} is kept in {self.path}; {again} resume"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the folder, until the block or the process ends.

        Raises:
            RunError: another process is training in it.
        """
        try:
            import fcntl
        except ImportError:  # Windows: no lock
            yield
            return
        with write_errors(self.path / LOCK):
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / LOCK, "w")  # noqa: SIM115 (closed below)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise RunError(
                        f"another process is training in {self.path}; wait for it, or give this run its own "
                        f"folder with name={self.path.name}-2"
                    ) from None
                # Otherwise a file system without locks.
            yield

    def claim(self, config: Config) -> State:
        """Writes the configuration to the folder, or checks that it is already that of the run there.

        Evaluations may change until there are results, `num_workers` and the folder's name at any time.

        Raises:
            RunError: the folder holds a run of another configuration; lists every difference.
        """
        state = self.state
        different = [] if state == "new" else config_differences(load_saved_config(self.config), config)
        # The folder may have been renamed or copied.
        free = ("training.num_workers", "name:") + (("evaluate",) if state != "finished" else ())
        different = [line for line in different if not line.startswith(free)]
        if different:
            raise RunError(
                f"{self.path} holds the {state} run of another configuration ({'; '.join(different)}); "
                f"give this one its own folder with name={self.path.name}-2, or remove {self.path}"
            )
        if state != "finished":
            write_atomic(self.config, dump_config(config))
        return state

    def remove_if_empty(self) -> None:
        """Removes the folder of a run that failed before anything but its configuration was written."""
        if not self.path.is_dir() or {p.name for p in self.path.iterdir()} - {self.config.name, LOCK}:
            return
        for path in self.path.iterdir():
            path.unlink()
        self.path.rmdir()

    def append_log(self, entry: dict[str, Any]) -> None:
        """Appends an event to `log.jsonl`."""
        append_line(self.log, json.dumps(entry))

    def read_log(self) -> list[dict[str, Any]]:
        """All events, without a last line that a crash has truncated."""
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
        """Removes events after `step`, which a resumed run writes again."""
        entries = [entry for entry in self.read_log() if entry.get("step", 0) <= step]
        write_atomic(self.log, "".join(json.dumps(entry) + "\n" for entry in entries))


def validation_of(run: RunFolder) -> float | None:
    """Validation accuracy of the saved model, averaged over the members of a repeated run; None without validation.

    Raises:
        RunError: it is missing from the log.
    """
    if run.members:
        accuracies = [value for value in map(validation_of, run.members) if value is not None]
        return fmean(accuracies) if accuracies else None
    step = read_metadata(run.path).get("best_step")
    if step is None:
        return None
    for entry in reversed(run.read_log()):
        if "validation" in entry and entry["step"] == step:
            return float(entry["validation"]["accuracy"])
    raise RunError(
        f"{run.log} does not contain the validation of step {step}; remove {run.path} to train it again"
    )
