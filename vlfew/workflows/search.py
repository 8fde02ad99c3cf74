"""A hyperparameter search: trials are trained as ordinary runs and compared on the validation split.

Nothing is measured on the test split, and an interrupted search can be resumed.
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

from vlfew.core.config import Config
from vlfew.core.config_diff import differences, flat_values
from vlfew.core.config_file import Origins
from vlfew.core.errors import ConfigError, DataError, RunError, VlfewError, WriteError
from vlfew.core.files import check_writable, keeping, write_atomic
from vlfew.data.labeled_images import LabeledImages
from vlfew.training.callbacks import Callback, DivergenceError, Evaluation
from vlfew.training.hardware import use_all_cores
from vlfew.training.run_folder import RunFolder, validation_of
from vlfew.training.trainer import Trainer
from vlfew.training.tune.search_space import Choices, Value, read_space, text_of
from vlfew.training.tune.study import (
    MIN_COMPARED,
    STARTUP,
    WARMUP_FRACTION,
    OpenTrial,
    Pruner,
    Study,
    Trial,
    holds_results,
)
from vlfew.workflows.assemble import load_data_of, read_config
from vlfew.workflows.configured_model import load_initial_model
from vlfew.workflows.model_selection import choose_model_selection
from vlfew.workflows.objective import choose_losses
from vlfew.workflows.train import fit

VALIDATION_SECTIONS = ("data", "text", "objective", "fallback_loss")
"""Sections that can change what is measured on the validation split."""


class _Pruning(Callback):
    """Reports validations to Optuna and stops the trial where Optuna's pruner decides so."""

    def __init__(self, trial: OpenTrial) -> None:
        self.trial = trial

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        if self.trial.report(trainer.state.step, evaluation.accuracy):
            raise optuna.TrialPruned


class Search:
    """A hyperparameter search around a configuration.

    Args:
        config_file: YAML file of the configuration.
        overrides: `key=value`, for every trial.
        space_file: YAML file of the search space.
        runs: folder of run folders; the trials go to `runs/<config.name>-tune/`.
        trials: number of trials in all, those of earlier calls included.
        pruner: of trials that fall behind.
        seed: of the suggestions.

    Raises:
        ConfigError: an invalid configuration or search space, one line per mistake; several processes; no model to
            start from.
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
                f"{config_file} repeats over {self.config.repeat.over}, and a trial is trained once; set repeat=null"
            )
        # Loaded once here: a missing model would otherwise fail every trial.
        start = None if self.config.init_from is None else load_initial_model(self.config.init_from)
        self._initialized_from = {} if start is None else {"weights to start from": start.fingerprint}
        self.space_file, self.origins = space_file, Origins()
        self.space = read_space(space_file, self._check, self.origins)
        self.path = runs / f"{self.config.name}-tune"
        self._data: LabeledImages | None = None
        self._data_config = self.config.data

    @contextmanager
    def opened(self) -> Iterator[Study]:
        """The study on disk, locked for this process.

        Raises:
            RunError: another process is working on it, or the folder holds a different or damaged search.
        """
        check_writable(self.path / "study.json", "--runs")
        kept = "finished trials are kept; run the same command again to continue"
        with RunFolder(self.path).locked(), keeping(self.path, lambda: kept):
            metadata, journal = self.path / "study.json", self.path / "study.journal"
            different = self._differences(metadata)
            # Without measurements nothing is lost: a mistake in the first try does not block the folder.
            if different and (holds_results(journal) or any(self.path.glob("trial-*/log.jsonl"))):
                raise RunError(
                    f"{self.path} holds another search ({'; '.join(different)}); use another name=..., or remove "
                    f"{self.path}"
                )
            if different:
                journal.unlink(missing_ok=True)
            write_atomic(metadata, json.dumps(self._settings(), indent=2, ensure_ascii=False) + "\n")
            yield Study(journal, self.space, self.pruner, self.seed, self.config.optim.steps)

    def run_of(self, trial: Trial) -> RunFolder:
        """The run folder of a trial, or of the earlier trial whose results it shares."""
        return RunFolder(self.path / f"trial-{trial.duplicate_of or trial.number:03d}")

    def command(self, trial: Trial) -> str:
        """The command that trains a trial again and evaluates it as configured."""
        command = ["vlfew", "train", str(self.config_file), *self.overrides, *trial.overrides]
        command += [f"name={self.config.name}-tuned"]
        return shlex.join(command if self.runs == Path("runs") else [*command, "--runs", str(self.runs)])

    def run_trials(
        self, study: Study, report: Callable[[RunFolder, LabeledImages], None], log: Callable[[str], None]
    ) -> Iterator[Trial]:
        """Run trials until there are as many as requested; yields each when it is done.

        Args:
            study: opened.
            report: writes the page of a trained trial.
            log: prints a line.

        Raises:
            VlfewError: the data cannot be read or have no validation split; a key of the search space changes what
                is measured; a checkpoint is damaged.
        """
        if len(study.done) >= self.trials:
            return
        use_all_cores()
        data = self._load(self.config)
        if "val" not in data.splits:
            raise ConfigError(
                f"a search compares trials on the validation split, and {data.name} as configured has none; choose a "
                "split of the data that has one (vlfew data show), or leave classes for it"
            )
        measured = measurement(self.config, data)
        if not study.done:
            self._check_same_measurement(measured)
        first = self.as_configured()
        for line in self._describe(measured, first is not None):
            log(line)
        while len(study.done) < self.trials:
            trial = study.next(first)
            before, of = trial.snapshot, f"trial {trial.snapshot.number} of {self.trials}"
            resumed = ", resumed" if before.curve or self.run_of(before).log.is_file() else ""
            log(f"{of}: {' '.join(before.overrides)}{resumed}")
            after = self._run(trial, study, measured, report)
            log(f"{of}: {_outcome(after, study.best)}")
            yield after

    def _run(
        self,
        trial: OpenTrial,
        study: Study,
        measured: tuple[Any, ...],
        report: Callable[[RunFolder, LabeledImages], None],
    ) -> Trial:
        """Train a trial, or what is left of it."""
        snapshot = trial.snapshot
        earlier = next((t for t in study.done if t.values == snapshot.values), None)
        if earlier is not None:
            return trial.copy(earlier)
        run = self.run_of(snapshot)
        own = [f"name={json.dumps(f'{self.config.name}-tune/{run.path.name}')}", "evaluate=[]"]
        with run.locked():
            try:
                config = read_config(self.config_file, [*self.overrides, *snapshot.overrides, *own])
                data = self._load(config)
                if measurement(config, data) != measured:
                    raise ConfigError(
                        "together, these values change what is measured on the validation split"
                    )
                if run.claim(config) not in ("trained", "finished"):
                    fit(config, run, data, [_Pruning(trial)], quiet=True)
            except optuna.TrialPruned:
                return trial.prune()
            except DivergenceError as error:
                return trial.fail(str(error).partition(";")[0])
            except torch.OutOfMemoryError:
                return trial.fail("out of memory")
            except (RunError, WriteError):
                raise  # a damaged folder, a full disk, or stopped with another process: not the hyperparameters' fault
            except VlfewError as error:
                return trial.fail("; ".join(str(error).splitlines()))
            if run.state != "finished":
                report(run, data)
        accuracy = validation_of(run)
        assert accuracy is not None  # there is a validation split
        return trial.finish(accuracy)

    def _load(self, config: Config) -> LabeledImages:
        """The data of a configuration, loaded again only where another trial used different data."""
        if self._data is None or config.data != self._data_config:
            self._data, self._data_config = load_data_of(config), config.data
        return self._data

    def _check(self, override: str) -> Config:
        """The configuration with one more override.

        Raises:
            ConfigError: it is not valid.
        """
        return read_config(self.config_file, [*self.overrides, override])

    def _check_same_measurement(self, measured: tuple[Any, ...]) -> None:
        """Trials are comparable only if all measure the same.

        Raises:
            ConfigError: a key changes what is measured, or the data cannot be read with one of its values.
        """
        problems = []
        for key, dimension in self.space.items():
            for value in dimension.probes() if key.partition(".")[0] in VALIDATION_SECTIONS else ():
                override = f"{key}={text_of(value)}"
                try:
                    config = self._check(override)
                    same = measurement(config, self._load(config)) == measured
                except (ConfigError, DataError) as error:
                    problems.append(f"{self.origins.of(key)}: with {override}: {error}")
                    continue
                if not same:
                    problems.append(
                        f"{self.origins.of(key)}: {override} changes what is measured on the validation split, by "
                        "which trials are compared; remove it from the search space"
                    )
        if problems:
            raise ConfigError(problems)

    def as_configured(self) -> dict[str, Value] | None:
        """The values of the configuration itself, if all lie in the search space."""
        values: dict[str, Value] = {}
        flat = flat_values(self.config)
        for key, dimension in self.space.items():
            if isinstance(dimension, Choices):
                same = (text for text in dimension.texts if self._check(f"{key}={text}") == self.config)
                value: Value | None = next(same, None)
            else:
                value = dimension.find(flat.get(key))
            if value is None:
                return None
            values[key] = value
        return values

    def _describe(self, measured: tuple[Any, ...], as_configured: bool) -> list[str]:
        """What is about to be done, for people."""
        protocol, options = measured[0]
        shown = ", ".join(f"{k} {v}" for k, v in options.items() if v is not None and k != "split")
        first = "the first is the configuration itself; " if as_configured else ""
        pruning = "no pruning"
        if self.pruner == "median":
            pruning = (
                f"pruned below the median of at least {MIN_COMPARED} finished trials, after {WARMUP_FRACTION:.0%} of "
                "the steps"
            )
        return [
            *(f"space      {key}: {dimension}" for key, dimension in self.space.items()),
            f"measured   {protocol} on val ({shown}); nothing on test",
            f"trials     {self.trials}: {first}random up to number {STARTUP}, then TPE, seed {self.seed}; {pruning}",
        ]

    def _settings(self) -> dict[str, Any]:
        """Everything that trials depend on, by name."""
        config = {
            k: v
            for k, v in flat_values(self.config).items()
            if k.partition(".")[0] not in ("name", "evaluate") and k != "training.num_workers"
        }
        return {
            "Optuna": f"{optuna.__version__.partition('.')[0]}.x",
            "seed of the search": self.seed,
            "pruner": self.pruner,
            **self._initialized_from,
            **{f"space of {key}": str(dimension) for key, dimension in self.space.items()},
            **config,
        }

    def _differences(self, metadata: Path) -> list[str]:
        """One `name: old -> new` for every setting that differs from the folder's."""
        if not metadata.is_file():
            return []
        try:
            return differences(json.loads(metadata.read_text(encoding="utf-8")), self._settings())
        except (ValueError, TypeError):
            return [f"{metadata} is damaged"]


def measurement(config: Config, data: LabeledImages) -> tuple[Any, ...]:
    """What is measured on the validation split: protocol, options, and the images of each class."""
    selection = choose_model_selection(config, data, choose_losses(config, data).needs_text)
    assert selection is not None
    images = []
    for label, index in data.by_class("val").items():
        # Positions among the images of the class: further training classes may come before them.
        of_class = (data.labels == label).nonzero().flatten()
        images.append((data.class_names[label], torch.searchsorted(of_class, index).tolist()))
    return (selection.protocol, selection.options), sorted(images)


def _outcome(trial: Trial, best: Trial | None) -> str:
    """`val 93.2% (best 93.4% of trial 1)`."""
    reached = "" if trial.accuracy is None else f"val {100 * trial.accuracy:.1f}%"
    text = {
        "finished": reached,
        "pruned": f"pruned at step {max(trial.curve, default=0):,}, {reached}",
        "failed": f"failed: {trial.why}",
        "unfinished": "unfinished",
    }[trial.state]
    if trial.duplicate_of is not None:
        text = f"same values as trial {trial.duplicate_of}, {text}"
    if best is None:
        return text
    if best.number == trial.number:
        return f"{text}, the best so far"
    return f"{text} (best {100 * (best.accuracy or 0):.1f}% of trial {best.number})"
