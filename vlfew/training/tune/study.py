"""What a search knows: its trials, kept on the disk by Optuna.

Suggestions are counted, not consumed: those of a trial are a function of the seed, its number and the
trials before it. A search that was killed goes on as if it had not been.
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
"""Trials that are drawn at random before the sampler goes by what it has seen."""
COMPARED = 5
"""Finished trials that a pruned one must have been compared with, at the same step."""
SPARED = 0.25
"""The part of the configured steps in which no trial is pruned: slow settings need not be bad ones."""
TELLING = 10
"""Finished trials from which on it is said which settings mattered."""
GOOD = 5
"""At least so many trials are taken as the good ones then."""


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: from 1.
        values: of the settings that are searched.
        state: `finished` and `pruned` ones were trained, whole or in part; a `failed` one could not be.
        accuracy: the best on the validation split, a fraction; None before the first validation.
        curve: accuracy by step.
        why: it failed, else "".
        twin: number of the earlier trial of the same values, whose answers these are; or None.
        as_configured: whether these are the values of the configuration itself.
    """

    number: int
    values: dict[str, Value]
    state: State
    accuracy: float | None
    curve: dict[int, float] = field(default_factory=dict)
    why: str = ""
    twin: int | None = None
    as_configured: bool = False

    @property
    def overrides(self) -> list[str]:
        """The values as `key=value`."""
        return [f"{key}={text_of(value)}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Importances:
    """What mattered.

    Attributes:
        shares: of each setting, the largest first; all together 1.
        good: how many trials were taken as the good ones.
        finished: among how many.
    """

    shares: dict[str, float]
    good: int
    finished: int


def holds_results(path: Path) -> bool:
    """Whether anything was measured in a journal, of whatever version."""
    return path.is_file() and b'"intermediate_value"' in path.read_bytes()


class Study:
    """The trials of a search, and what to try next.

    Args:
        path: of the journal; made if missing.
        space: of the search.
        pruner: `median` ends a trial whose best accuracy so far is below the median, over finished
            trials, of the accuracies at the same step.
        seed: of the suggestions.
        steps: of training, as configured.

    Raises:
        RunError: the journal cannot be read.
    """

    def __init__(self, path: Path, space: SearchSpace, pruner: Pruner, seed: int, steps: int) -> None:
        self.path, self.space, self.seed = path, space, seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        _mend(path)
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
                f"{path} cannot be read by Optuna {optuna.__version__}: {first_line(error)}; search under another "
                f"name=..., or remove {path.parent}"
            ) from None

    @property
    def trials(self) -> list[Trial]:
        """All of them, in order."""
        begun = self._study.get_trials(deepcopy=False)
        return [_told(t, self.space) for t in begun if t.state != TrialState.WAITING]

    @property
    def done(self) -> list[Trial]:
        """Those that need no more work."""
        return [t for t in self.trials if t.state != "unfinished"]

    @property
    def best(self) -> Trial | None:
        """The finished trial of the highest accuracy, the first of equals."""
        finished = [t for t in self.trials if t.state == "finished"]
        return max(finished, key=lambda t: (t.accuracy or 0.0, -t.number), default=None)

    def next(self, first: dict[str, Value] | None = None) -> OpenTrial:
        """The trial to work on: the one that was interrupted, or else a new one.

        Args:
            first: values of the very first trial; drawn when not given.
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
            # Values that were drawn before are given again.
            if isinstance(dimension, Choices):
                trial.suggest_categorical(key, dimension.texts)
            elif dimension.whole:
                low, high, step = int(dimension.low), int(dimension.last), int(dimension.step or 1)
                trial.suggest_int(key, low, high, step=step, log=dimension.log)
            else:
                bottom, top = float(dimension.low), float(dimension.last)
                trial.suggest_float(key, bottom, top, step=dimension.step, log=dimension.log)
        return OpenTrial(trial, self.space)

    def importances(self) -> Importances | str:
        """How much each setting told good trials from the others; or what is missing to tell.

        PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
        Arbitrary Subspaces"): for each setting, how far the density of its values among the good trials is
        from that among all. Nothing in it is random.
        """
        accuracies = sorted((t.accuracy or 0.0 for t in self.trials if t.state == "finished"), reverse=True)
        finished = len(accuracies)
        if finished < TELLING:
            return f"it takes {TELLING} finished trials, and there are {finished}"
        wanted = max(GOOD, -(-finished // 10))
        good = sum(a >= accuracies[wanted - 1] for a in accuracies)
        if good == finished:
            return "the finished trials are too much alike: there are none better than the rest"
        evaluator = PedAnovaImportanceEvaluator(target_quantile=wanted / finished)
        # The names are given: Optuna's own order of them changes from process to process.
        shares = get_param_importances(self._study, evaluator=evaluator, params=list(self.space))
        return Importances(shares, good, finished)


class OpenTrial:
    """A trial at work: takes what comes of it.

    Args:
        trial: Optuna's.
        space: of the search.
    """

    def __init__(self, trial: optuna.Trial, space: SearchSpace) -> None:
        self._trial, self._space = trial, space

    @property
    def told(self) -> Trial:
        """How it stands."""
        return _told(self._trial.study.get_trials(deepcopy=False)[self._trial.number], self._space)

    def report(self, step: int, accuracy: float) -> bool:
        """Takes a validation; returns whether the trial is to be pruned."""
        # A resumed trial validates once more at steps that it has reported.
        if step not in self.told.curve:
            self._trial.report(accuracy, step)
        return self._trial.should_prune()

    def finish(self, accuracy: float) -> Trial:
        """It was trained to its end, and is as good as `accuracy`."""
        return self._close(TrialState.COMPLETE, accuracy)

    def prune(self) -> Trial:
        """It was ended early."""
        return self._close(TrialState.PRUNED)

    def fail(self, why: str) -> Trial:
        """It could not be trained. To the sampler it is one of the worst."""
        self._trial.set_user_attr("why", why)
        return self._close(TrialState.PRUNED)

    def copy(self, twin: Trial) -> Trial:
        """It has the values of an earlier one, and so its answers."""
        self._trial.set_user_attr("twin", twin.number)
        for step, accuracy in twin.curve.items():
            self.report(step, accuracy)
        if twin.state == "finished":
            return self._close(TrialState.COMPLETE, twin.accuracy)
        return self.fail(twin.why) if twin.state == "failed" else self.prune()

    def _close(self, state: TrialState, accuracy: float | None = None) -> Trial:
        self._trial.study.tell(self._trial, accuracy, state)
        return self.told


def _pruner(name: Pruner, steps: int) -> optuna.pruners.BasePruner:
    if name == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=COMPARED, n_warmup_steps=round(SPARED * steps), n_min_trials=COMPARED
    )


def _told(trial: FrozenTrial, space: SearchSpace) -> Trial:
    """What Optuna keeps of a trial, in our words."""
    metadata = trial.user_attrs
    drawn = {key: trial.params[key] for key in space if key in trial.params}
    fixed = bool(metadata.get("as_configured"))
    curve = dict(sorted(trial.intermediate_values.items()))
    state: State = "unfinished"
    if trial.state.is_finished():
        finished = trial.state == TrialState.COMPLETE
        state = "finished" if finished else "failed" if metadata.get("why") else "pruned"
    return Trial(
        number=trial.number + 1,
        # As drawn, numbers have more digits than anybody can read.
        values=drawn if fixed else {key: space[key].value(value) for key, value in drawn.items()},
        state=state,
        accuracy=trial.value if state == "finished" else max(curve.values(), default=None),
        curve=curve,
        why=metadata.get("why", ""),
        twin=metadata.get("twin"),
        as_configured=fixed,
    )


def _mend(path: Path) -> None:
    """Takes away what a crash can leave: a lock, and a last line that was cut short."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.is_file() and not (content := path.read_bytes()).endswith(b"\n"):
        write_atomic(path, content[: content.rfind(b"\n") + 1])
