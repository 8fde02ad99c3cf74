"""The trials of a hyperparameter search, stored on disk by Optuna.

The suggestions of a trial depend on the seed, its number and the trials before it, so an interrupted search continues
as if it had not been interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from vlfew.core.errors import RunError, first_line
from vlfew.core.files import write_atomic
from vlfew.core.random import seed_at
from vlfew.training.tune.search_space import Choices, SearchSpace, Value, text_of

Pruner = Literal["median", "none"]
State = Literal["finished", "pruned", "failed", "unfinished"]

STARTUP = 10
"""Random trials before the sampler uses earlier results."""
MIN_COMPARED = 5
"""Finished trials needed at a step before a trial can be pruned there."""
WARMUP_FRACTION = 0.25
"""Fraction of the steps in which no trial is pruned: slow settings are not necessarily bad."""
MIN_FOR_IMPORTANCE = 10
"""Finished trials needed to estimate importances."""
MIN_GOOD = 5
"""Trials counted as good ones for that, at least."""


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: from 1.
        values: of the tuned keys.
        state: `finished` (fully trained), `pruned` (stopped early), `failed` (could not be trained) or `unfinished`.
        accuracy: best validation accuracy, 0 to 1; None before the first validation.
        curve: validation accuracy by step.
        why: the reason for a failure, otherwise empty.
        duplicate_of: number of an earlier trial with the same values, whose results were copied; or None.
        as_configured: whether these are the values of the configuration itself.
    """

    number: int
    values: dict[str, Value]
    state: State
    accuracy: float | None
    curve: dict[int, float] = field(default_factory=dict)
    why: str = ""
    duplicate_of: int | None = None
    as_configured: bool = False

    @property
    def overrides(self) -> list[str]:
        """The values as `key=value`."""
        return [f"{key}={text_of(value)}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Importances:
    """Hyperparameter importances.

    Attributes:
        shares: of each key, largest first; they sum to 1.
        good: number of trials counted as good.
        finished: number of finished trials.
    """

    shares: dict[str, float]
    good: int
    finished: int


def holds_results(path: Path) -> bool:
    """Whether a journal of any version contains measurements."""
    return path.is_file() and b'"intermediate_value"' in path.read_bytes()


class Study:
    """The trials of a search, and the next one to run.

    Args:
        path: the journal; created if missing.
        space: search space.
        pruner: `median` stops a trial whose best accuracy so far is below the median accuracy of the finished
            trials at the same step.
        seed: of the suggestions.
        steps: configured training steps.

    Raises:
        RunError: the journal cannot be read.
    """

    def __init__(self, path: Path, space: SearchSpace, pruner: Pruner, seed: int, steps: int) -> None:
        self.path, self.space, self.seed = path, space, seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        _repair(path)
        try:
            storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
            self._study = optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize",
                load_if_exists=True,
                pruner=_pruner(pruner, steps),
            )
        except (ValueError, KeyError, TypeError, AssertionError, IndexError) as error:
            raise RunError(
                f"{path} cannot be read by Optuna {optuna.__version__}: {first_line(error)}; use another "
                f"name=..., or remove {path.parent}"
            ) from None

    @property
    def trials(self) -> list[Trial]:
        """All trials, in order."""
        begun = self._study.get_trials(deepcopy=False)
        return [_from_optuna(t, self.space) for t in begun if t.state != TrialState.WAITING]

    @property
    def done(self) -> list[Trial]:
        """Trials that need no more work."""
        return [t for t in self.trials if t.state != "unfinished"]

    @property
    def best(self) -> Trial | None:
        """The finished trial with the highest accuracy; the first in a tie."""
        finished = [t for t in self.trials if t.state == "finished"]
        return max(finished, key=lambda t: (t.accuracy or 0.0, -t.number), default=None)

    def next(self, first: dict[str, Value] | None = None) -> OpenTrial:
        """The trial to run: the interrupted one, or else a new one.

        Args:
            first: values of the very first trial; sampled if not given.
        """
        study = self._study
        if first is not None and not study.get_trials(deepcopy=False):
            study.enqueue_trial(dict(first), user_attrs={"as_configured": True})
        trials = study.get_trials(deepcopy=False)
        begun = next((t for t in trials if not t.state.is_finished()), None)
        number = begun.number if begun else len(trials)
        study.sampler = optuna.samplers.TPESampler(
            seed=seed_at(self.seed, "suggestion", number) % 2**32, n_startup_trials=STARTUP, multivariate=True
        )
        if begun is not None and begun.state == TrialState.RUNNING:
            trial = optuna.Trial(study, begun._trial_id)
        else:
            trial = study.ask()
        for key, dimension in self.space.items():
            # An interrupted trial is given the same values again.
            if isinstance(dimension, Choices):
                trial.suggest_categorical(key, dimension.texts)
            elif dimension.integer:
                low, high, step = int(dimension.low), int(dimension.last), int(dimension.step or 1)
                trial.suggest_int(key, low, high, step=step, log=dimension.log)
            else:
                bottom, top = float(dimension.low), float(dimension.last)
                trial.suggest_float(key, bottom, top, step=dimension.step, log=dimension.log)
        return OpenTrial(trial, self.space)

    def importances(self) -> Importances | str:
        """How much each key separates good trials from the others; or what is missing to estimate that.

        PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
        Subspaces"): the divergence, for each key, between the density of its values among good trials and among all
        trials. It is deterministic.
        """
        accuracies = sorted((t.accuracy or 0.0 for t in self.trials if t.state == "finished"), reverse=True)
        finished = len(accuracies)
        if finished < MIN_FOR_IMPORTANCE:
            return f"this needs {MIN_FOR_IMPORTANCE} finished trials, and there are only {finished}"
        wanted = max(MIN_GOOD, -(-finished // 10))
        good = sum(a >= accuracies[wanted - 1] for a in accuracies)
        if good == finished:
            return "the finished trials are too similar: none is better than the rest"
        evaluator = PedAnovaImportanceEvaluator(target_quantile=wanted / finished)
        # Optuna's own order of the names changes from process to process.
        shares = get_param_importances(self._study, evaluator=evaluator, params=list(self.space))
        return Importances(shares, good, finished)


class OpenTrial:
    """A running trial.

    Args:
        trial: of Optuna.
        space: search space.
    """

    def __init__(self, trial: optuna.Trial, space: SearchSpace) -> None:
        self._trial, self._space = trial, space

    @property
    def snapshot(self) -> Trial:
        """Its current state."""
        return _from_optuna(self._trial.study.get_trials(deepcopy=False)[self._trial.number], self._space)

    def report(self, step: int, accuracy: float) -> bool:
        """Record a validation; returns whether the trial should be pruned."""
        # A resumed trial validates again at steps that it has reported.
        if step not in self.snapshot.curve:
            self._trial.report(accuracy, step)
        return self._trial.should_prune()

    def finish(self, accuracy: float) -> Trial:
        """Record a complete training."""
        return self._close(TrialState.COMPLETE, accuracy)

    def prune(self) -> Trial:
        """Record that it was stopped early."""
        return self._close(TrialState.PRUNED)

    def fail(self, why: str) -> Trial:
        """Record that it could not be trained; the sampler counts it among the worst."""
        self._trial.set_user_attr("why", why)
        return self._close(TrialState.PRUNED)

    def copy(self, earlier: Trial) -> Trial:
        """Copy the results of an earlier trial with the same values."""
        self._trial.set_user_attr("twin", earlier.number)
        for step, accuracy in earlier.curve.items():
            self.report(step, accuracy)
        if earlier.state == "finished":
            return self._close(TrialState.COMPLETE, earlier.accuracy)
        return self.fail(earlier.why) if earlier.state == "failed" else self.prune()

    def _close(self, state: TrialState, accuracy: float | None = None) -> Trial:
        self._trial.study.tell(self._trial, accuracy, state)
        return self.snapshot


def _pruner(name: Pruner, steps: int) -> optuna.pruners.BasePruner:
    if name == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=MIN_COMPARED,
        n_warmup_steps=round(WARMUP_FRACTION * steps),
        n_min_trials=MIN_COMPARED,
    )


def _from_optuna(trial: FrozenTrial, space: SearchSpace) -> Trial:
    """A trial as Optuna stores it."""
    metadata = trial.user_attrs
    sampled = {key: trial.params[key] for key in space if key in trial.params}
    fixed = bool(metadata.get("as_configured"))
    curve = dict(sorted(trial.intermediate_values.items()))
    state: State = "unfinished"
    if trial.state.is_finished():
        finished = trial.state == TrialState.COMPLETE
        state = "finished" if finished else "failed" if metadata.get("why") else "pruned"
    return Trial(
        number=trial.number + 1,
        # Sampled numbers have more digits than are readable.
        values=sampled if fixed else {key: space[key].value(value) for key, value in sampled.items()},
        state=state,
        accuracy=trial.value if state == "finished" else max(curve.values(), default=None),
        curve=curve,
        why=metadata.get("why", ""),
        duplicate_of=metadata.get("twin"),
        as_configured=fixed,
    )


def _repair(path: Path) -> None:
    """Remove what a crash can leave behind: a lock, and a truncated last line."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.is_file() and not (content := path.read_bytes()).endswith(b"\n"):
        write_atomic(path, content[: content.rfind(b"\n") + 1])
