"""A search for settings: trials are trained as ordinary runs and compared on the validation split.

Nothing is measured on the test split, and a search that was killed goes on where it was.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch

from vlfew.core.config import Config, flat_values
from vlfew.core.errors import ConfigError, DataError, RunError, VlfewError
from vlfew.core.files import write_atomic
from vlfew.data.labeled_images import LabeledImages
from vlfew.training.run_folder import RunFolder, validation_of
from vlfew.training.trainer import DivergenceError, Trainer
from vlfew.training.tune.search_space import Choices, Value, read_space, text_of
from vlfew.training.tune.study import (
    COMPARED,
    SPARED,
    STARTUP,
    OpenTrial,
    Pruner,
    Study,
    Trial,
    holds_results,
)
from vlfew.workflows.assemble import (
    choose_objective,
    load_configured_data,
    model_to_initialize_from,
    read_config,
    selection,
    use_all_cores,
)

ASKING = ("data", "text", "objective", "fallback_loss")
"""Sections that have a say in what is asked on the validation split."""


class Pruned(Exception):
    """The trial is ended early: at this step others were further."""


class Search:
    """A search in the neighborhood of a configuration.

    Args:
        config_file: YAML of the configuration.
        overrides: `key=value`, for every trial.
        space_file: YAML of the space.
        runs: folder of run folders; the trials land in `runs/<config.name>-tune/`.
        trials: how many there are to be, those of earlier calls included.
        pruner: of trials that fall behind.
        seed: of the suggestions.

    Raises:
        ConfigError: the configuration or the space is no good, with one line for each mistake; several
            processes were started; no model to start from.
    """

    def __init__(
        self,
        config_file: Path,
        overrides: Sequence[str],
        space_file: Path,
        runs: Path,
        *,
        trials: int,
        pruner: Pruner,
        seed: int,
    ) -> None:
        if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            raise ConfigError(
                f"a search runs in one process, and {processes} were started; leave the launcher out"
            )
        self.config_file, self.overrides, self.runs = config_file, list(overrides), runs
        self.trials, self.pruner, self.seed = trials, pruner, seed
        self.config = read_config(config_file, overrides)
        if self.config.repeat is not None:
            raise ConfigError(
                f"{config_file} repeats over {self.config.repeat.over}, and a trial is trained once; give repeat=null"
            )
        # Every trial would find out that it is not there.
        start = None if self.config.init_from is None else model_to_initialize_from(self.config.init_from)
        self._started_from = {} if start is None else {"weights to start from": start.fingerprint}
        self.space = read_space(space_file, config_file, overrides)
        self.path = runs / f"{self.config.name}-tune"
        self._data: LabeledImages | None = None
        self._data_of = self.config.data

    @contextmanager
    def opened(self) -> Iterator[Study]:
        """The trials so far; other processes are kept out.

        Raises:
            RunError: another process is at work on it; the folder holds another search, or one that
                cannot be read; says the difference and the way out.
        """
        with RunFolder(self.path).held():
            metadata, journal = self.path / "study.json", self.path / "study.journal"
            different = self._differences(metadata)
            # Where nothing was measured, nothing would be lost: a mistake in the first try claims nothing.
            if different and (holds_results(journal) or any(self.path.glob("trial-*/log.jsonl"))):
                raise RunError(
                    f"{self.path} holds another search ({'; '.join(different)}); search under another name=..., "
                    f"or remove {self.path}"
                )
            if different:
                journal.unlink(missing_ok=True)
            write_atomic(metadata, json.dumps(self._settings(), indent=2, ensure_ascii=False) + "\n")
            yield Study(journal, self.space, self.pruner, self.seed, self.config.optim.steps)

    def run_of(self, trial: Trial) -> RunFolder:
        """The run of a trial, or of the earlier one whose answers it has."""
        return RunFolder(self.path / f"trial-{trial.twin or trial.number:03d}")

    def command(self, trial: Trial) -> str:
        """The command line that trains a trial anew, and evaluates it as the configuration says."""
        words = ["vlfew", "train", str(self.config_file), *self.overrides, *trial.overrides]
        words += [f"name={self.config.name}-tuned"]
        return shlex.join(words if self.runs == Path("runs") else [*words, "--runs", str(self.runs)])

    def go_on(
        self, study: Study, report: Callable[[RunFolder, LabeledImages], None], say: Callable[[str], None]
    ) -> Iterator[Trial]:
        """Works on trials until there are as many as wanted; gives each as it is done.

        Args:
            study: opened.
            report: writes the page of a trained trial.
            say: passes a line on to people.

        Raises:
            VlfewError: the data cannot be read or have no validation split; a setting changes what is asked
                of a trial; training was stopped (`TrainingInterrupted`) or a checkpoint is damaged.
        """
        if len(study.done) >= self.trials:
            return
        use_all_cores()
        data = self._load(self.config)
        if "val" not in data.splits:
            raise ConfigError(
                f"a search goes by the validation split, and {data.name} as configured has none; choose a split of "
                "the data that has one (vlfew data show), or leave classes for it"
            )
        asked = question(self.config, data)
        if not study.done:
            self._check_one_question(asked)
        first = self.as_configured()
        for line in self._describe(asked, first is not None):
            say(line)
        while len(study.done) < self.trials:
            trial = study.next(first)
            told, of = trial.told, f"trial {trial.told.number} of {self.trials}"
            again = ", taken up again" if told.curve or self.run_of(told).log.is_file() else ""
            say(f"{of}: {' '.join(told.overrides)}{again}")
            told = self._work_on(trial, study, asked, report)
            say(f"{of}: {_outcome(told, study.best)}")
            yield told

    def _work_on(
        self,
        trial: OpenTrial,
        study: Study,
        asked: tuple[Any, ...],
        report: Callable[[RunFolder, LabeledImages], None],
    ) -> Trial:
        """Trains a trial, or what is left of it."""
        told = trial.told
        twin = next((t for t in study.done if t.values == told.values), None)
        if twin is not None:
            return trial.copy(twin)
        run = self.run_of(told)
        own = [f"name={json.dumps(f'{self.config.name}-tune/{run.path.name}')}", "evaluate=[]"]

        def on_validation(step: int, accuracy: float) -> None:
            if trial.report(step, accuracy):
                raise Pruned

        trainer = None
        with run.held():
            try:
                config = read_config(self.config_file, [*self.overrides, *told.overrides, *own])
                data = self._load(config)
                if question(config, data) != asked:
                    raise ConfigError("together, these change what is asked on the validation split")
                trained = run.claim(config) in ("trained", "finished")
                if not trained:
                    trainer = Trainer(config, data, run, on_validation)
                    trainer.train()
            except Pruned:
                return trial.prune()
            except DivergenceError as error:
                return trial.fail(str(error).partition(";")[0])
            except torch.OutOfMemoryError:
                return trial.fail("it did not fit into the memory of the device")
            except RunError:
                # Stopped, or a folder that is damaged: the settings are not to blame.
                raise
            except VlfewError as error:
                return trial.fail("; ".join(str(error).splitlines()))
            finally:
                if trainer is not None:
                    for tracker in trainer.accelerator.trackers:
                        tracker.finish()
            if run.state != "finished":
                report(run, data)
        accuracy = validation_of(run)
        assert accuracy is not None  # a search is refused where there is no validation split
        return trial.finish(accuracy)

    def _load(self, config: Config) -> LabeledImages:
        """The data of a configuration; read again only where another trial read other data."""
        if self._data is None or config.data != self._data_of:
            self._data, self._data_of = load_configured_data(config), config.data
        return self._data

    def _check_one_question(self, asked: tuple[Any, ...]) -> None:
        """Trials compare only where they answer the same question.

        Raises:
            ConfigError: a setting changes it, one line for each; or the data cannot be read with it.
        """
        problems = []
        for key, dimension in self.space.items():
            for value in dimension.probes() if key.partition(".")[0] in ASKING else ():
                override = f"{key}={text_of(value)}"
                try:
                    config = self._with(key, value)
                    same = question(config, self._load(config)) == asked
                except (ConfigError, DataError) as error:
                    problems.append(f"{dimension.where}: with {override}: {error}")
                else:
                    problems += [] if same else [
                        f"{dimension.where}: {override} changes what is asked on the validation split, and trials "
                        "are compared by it; leave it out of the space"
                    ]  # fmt: skip
        if problems:
            raise ConfigError(problems)

    def as_configured(self) -> dict[str, Value] | None:
        """The values of the configuration itself, where all lie in the space."""
        values: dict[str, Value] = {}
        for key, dimension in self.space.items():
            if isinstance(dimension, Choices):
                same = (text for text in dimension.texts if self._with(key, text) == self.config)
                found: Value | None = next(same, None)
            else:
                found = dimension.find(self._value_of(key))
            if found is None:
                return None
            values[key] = found
        return values

    def _with(self, key: str, value: Value) -> Config:
        """The configuration, but for one setting."""
        return read_config(self.config_file, [*self.overrides, f"{key}={text_of(value)}"])

    def _value_of(self, key: str) -> Any:
        """What the configuration has there; None where it is silent."""
        value: Any = self.config.model_dump(mode="json")
        try:
            for step in key.split("."):
                value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
        return value

    def _describe(self, asked: tuple[Any, ...], as_configured: bool) -> list[str]:
        """What is about to be done, in a few lines for people."""
        protocol, options = asked[0]
        shown = ", ".join(f"{k} {v}" for k, v in options.items() if v is not None and k != "split")
        first = "the first is the configuration as it stands; " if as_configured else ""
        median = (
            f"pruned, after {SPARED:.0%} of the steps, below the median of {COMPARED} or more finished ones"
        )
        pruned = median if self.pruner == "median" else "none is pruned"
        return [
            *(f"space      {key}: {dimension}" for key, dimension in self.space.items()),
            f"measured   {protocol} on val ({shown}); nothing on test",
            f"trials     {self.trials}: {first}at random up to the {STARTUP}th, then by TPE, "
            f"seed {self.seed}; {pruned}",
        ]

    def _settings(self) -> dict[str, Any]:
        """All that trials depend on, by name."""
        flat = {
            k: v
            for k, v in flat_values(self.config).items()
            if k.partition(".")[0] not in ("name", "evaluate")
        }
        return {
            "Optuna": f"{optuna.__version__.partition('.')[0]}.x",
            "seed of the search": self.seed,
            "pruner": self.pruner,
            **self._started_from,
            **{f"space of {key}": str(dimension) for key, dimension in self.space.items()},
            **flat,
        }

    def _differences(self, metadata: Path) -> list[str]:
        """One `setting: old -> new` for each that is not what the folder says."""
        if not metadata.is_file():
            return []
        try:
            was, now = json.loads(metadata.read_text(encoding="utf-8")), self._settings()
            names = dict.fromkeys([*was, *now])
        except (ValueError, TypeError):
            return [f"{metadata} is damaged"]
        return [
            f"{name}: {was.get(name, 'unset')} -> {now.get(name, 'unset')}"
            for name in names
            if was.get(name) != now.get(name)
        ]


def question(config: Config, data: LabeledImages) -> tuple[Any, ...]:
    """What is asked on the validation split: by which protocol, about which images of which classes."""
    asked = selection(config, data, choose_objective(config, data).needs_text)
    images = []
    for label, index in data.by_class("val").items():
        # Their numbers among the images of their class: further training classes may stand before them.
        same = (data.labels == label).nonzero().flatten()
        images.append((data.class_names[label], torch.searchsorted(same, index).tolist()))
    return asked, sorted(images)


def _outcome(trial: Trial, best: Trial | None) -> str:
    """`val 93.2% (best 93.4% of trial 1)`."""
    reached = "" if trial.accuracy is None else f"val {100 * trial.accuracy:.1f}%"
    told = {
        "finished": reached,
        "pruned": f"pruned at step {max(trial.curve, default=0):,}, {reached}",
        "failed": f"failed: {trial.why}",
        "unfinished": "unfinished",
    }[trial.state]
    if trial.twin is not None:
        told = f"the same as trial {trial.twin}, {told}"
    if best is None:
        return told
    if best.number == trial.number:
        return f"{told}, the best so far"
    return f"{told} (best {100 * (best.accuracy or 0):.1f}% of trial {best.number})"
