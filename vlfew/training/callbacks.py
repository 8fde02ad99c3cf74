"""What happens around the steps of a training: logs, progress, checkpoints, early stopping, signals.

A `Trainer` calls its callbacks in the order of their list.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vlfew.core.console import log
from vlfew.core.errors import RunError
from vlfew.core.progress import Progress
from vlfew.training.checkpoint import (
    flatten_optimizer,
    latest_checkpoint,
    learned_state,
    load_checkpoint,
    prune_checkpoints,
    restore_optimizer,
    save_checkpoint,
)
from vlfew.training.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from vlfew.training.trainer import Trainer


class TrainingInterrupted(RunError):
    """Training was stopped by a signal; its state is saved and the run can be resumed."""


class DivergenceError(RunError):
    """The loss or the weights are no longer finite."""


class Evaluation(NamedTuple):
    """A validation during training.

    Attributes:
        protocol: its evaluation protocol.
        split: of the data.
        accuracy: 0 to 1.
        improved: whether it is the best of the training so far.
    """

    protocol: str
    split: str
    accuracy: float
    improved: bool


class Callback:
    """Base class; every method does nothing unless overridden."""

    def setup(self, trainer: Trainer) -> None:
        """Before everything else: a checkpoint is loaded here."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step; `trainer.state` is that of a resumed run, if it is one."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each optimizer step; `trainer.should_log`, `should_evaluate` and `should_save` are set."""

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        """After each validation."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last step."""

    def teardown(self, trainer: Trainer) -> None:
        """At the very end, also after an exception; the last callback of the list comes first."""


STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


def _leave_terminal() -> None:
    """Sends output to nowhere where it went to a terminal, which was closed: writing to it would be an error."""
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class StopSignal(Callback):
    """On SIGTERM, SIGHUP or Ctrl-C: finishes the step, lets a checkpoint be saved, and lets the signal act as usual.

    That ends the process, or raises KeyboardInterrupt; `TrainingInterrupted` is raised where it does neither, as in
    processes that stop because another one received the signal. A second signal acts at once.

    Args:
        run: the folder to name in the message.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run, self.received, self.stopping, self.message = run, 0, False, ""
        self.handlers: dict[int, Any] = {}

    def on_train_begin(self, trainer: Trainer) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` sets SIGHUP
                    self.handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        self._restore_handlers()
        if number not in (signal.SIGTERM, signal.SIGINT):
            _leave_terminal()

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers.clear()

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.step < trainer.steps and self._any_process_received(trainer):
            self.stopping = trainer.should_stop = trainer.should_save = True

    def _any_process_received(self, trainer: Trainer) -> bool:
        """All processes must stop at the same step."""
        accelerator = trainer.accelerator
        if accelerator.num_processes == 1:
            return self.received != 0
        if accelerator.device.type != "cpu" and not trainer.should_log:
            return False  # the exchange would make the host wait for the GPU
        if self.received:
            accelerator.set_trigger()
        return accelerator.check_trigger()

    def on_train_end(self, trainer: Trainer) -> None:
        if self.stopping and not trainer.stopped_early:
            self.message = (
                f"stopped at step {trainer.state.step} of {trainer.steps}, state saved in {self.run.path}; "
                "run the same command again to resume"
            )
            raise TrainingInterrupted(self.message)

    def teardown(self, trainer: Trainer) -> None:
        self._restore_handlers()
        if self.received:
            log(
                self.message
                or f"stopped by a signal; run the same command again to go on with {self.run.path}"
            )
            signal.raise_signal(self.received)


class DivergenceCheck(Callback):
    """Raises `DivergenceError` when the loss is not finite, before such a model is logged or saved.

    Each loss is checked on its device; the host reads the outcome only when something is logged, evaluated or
    saved. Before a model is evaluated or saved, its weights are checked too, which a step can spoil after a finite
    loss.

    Args:
        run: whose last good checkpoint is named in the message.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_train_begin(self, trainer: Trainer) -> None:
        self.first_bad_step = torch.full((), -1, device=trainer.accelerator.device)

    def on_step_end(self, trainer: Trainer) -> None:
        step, first = trainer.state.step, self.first_bad_step
        self.first_bad_step = torch.where((first < 0) & ~trainer.loss.isfinite(), step, first)
        if not (trainer.should_log or trainer.should_evaluate or trainer.should_save):
            return
        bad_step = int(self.first_bad_step)
        if bad_step < 0 and (trainer.should_evaluate or trainer.should_save):
            values = learned_state(trainer.training_step).values()
            finite = [value.isfinite().all() for value in values if value.is_floating_point()]
            bad_step = bad_step if bool(torch.stack(finite).all()) else step
        if bad_step >= 0:
            good = latest_checkpoint(self.run.checkpoints)
            saved = f"the last good checkpoint is {good}" if good else "no checkpoint was saved yet"
            raise DivergenceError(
                f"the loss or the weights have not been finite since step {bad_step}; {saved} (in "
                f"{self.run.checkpoints}); try a lower optim.lr, optim.max_grad_norm, or "
                "training.mixed_precision=no, in a new run (name=NEW_NAME)"
            )


class ProgressBar(Callback):
    """A progress bar on standard error, and a line for each validation."""

    def on_train_begin(self, trainer: Trainer) -> None:
        self.bar = Progress("training", trainer.steps, "steps", start=trainer.state.step)

    def on_step_end(self, trainer: Trainer) -> None:
        self.bar.step(note=f"loss {trainer.logs['loss']:.3f}" if trainer.should_log else "")

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        if trainer.accelerator.is_main_process:
            self.bar.print(
                f"step {trainer.state.step:>6,}  {evaluation.protocol} on {evaluation.split} "
                f"{100 * evaluation.accuracy:5.2f}%{' (best so far)' if evaluation.improved else ''}  "
                f"({trainer.state.seconds:.0f} s)"
            )

    def on_train_end(self, trainer: Trainer) -> None:
        if trainer.stopped_early:
            state = trainer.state
            self.bar.print(f"stopped early at step {state.step}: no improvement since step {state.best_step}")

    def teardown(self, trainer: Trainer) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


class JsonlLogger(Callback):
    """Writes what is trained on, losses and validations to the run folder's `log.jsonl`.

    Args:
        run: the folder.
        images_per_step: over all processes, for the throughput.
        data: facts about the data, with the names of all files that are left out.
    """

    def __init__(self, run: RunFolder, images_per_step: int, data: Mapping[str, object]) -> None:
        self.run, self.images_per_step, self.data = run, images_per_step, data

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.accelerator.is_main_process:
            self.run.rewind_log(trainer.state.step)
            if not self.run.read_log():
                self.run.append_log({"step": 0, "data": self.data})
        self._restart_clock(trainer)

    def _restart_clock(self, trainer: Trainer) -> None:
        self.since, self.since_step = time.monotonic(), trainer.state.step

    def on_step_end(self, trainer: Trainer) -> None:
        if not trainer.should_log:
            return
        images = (trainer.state.step - self.since_step) * self.images_per_step
        speed = images / (time.monotonic() - self.since)
        self._restart_clock(trainer)
        self._write(trainer, trainer.logs | {"images_per_second": round(speed, 1)})

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        protocol, _, accuracy, improved = evaluation
        self._write(trainer, {"validation": {"protocol": protocol, "accuracy": accuracy, "best": improved}})
        self._restart_clock(trainer)

    def _write(self, trainer: Trainer, entry: Mapping[str, object]) -> None:
        if trainer.accelerator.is_main_process:
            state = trainer.state
            self.run.append_log({"step": state.step, **entry, "seconds": round(state.seconds, 1)})


class EarlyStopping(Callback):
    """Stops the training after `patience` validations without improvement.

    Args:
        patience: in validations.
        start_step: validations up to this step do not count, so that a later stage of the objective has its chance.
    """

    def __init__(self, patience: int, start_step: float = 0) -> None:
        self.patience, self.start_step = patience, start_step

    def on_train_begin(self, trainer: Trainer) -> None:
        self._stop_if_exhausted(trainer)

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        state = trainer.state
        counts = not evaluation.improved and state.step > self.start_step
        state.evaluations_since_best = state.evaluations_since_best + 1 if counts else 0
        self._stop_if_exhausted(trainer)

    def _stop_if_exhausted(self, trainer: Trainer) -> None:
        if trainer.state.evaluations_since_best >= self.patience and trainer.state.step < trainer.steps:
            trainer.should_stop = trainer.stopped_early = True


class Checkpointing(Callback):
    """Saves checkpoints, resumes from the newest, and at the end loads the weights of the best validation.

    Args:
        run: its `checkpoints/` folder is used.
        parameter_names: in the order of the optimizer's parameters.
        identity: what must be the same when the run is resumed; see `save_checkpoint`.
    """

    def __init__(self, run: RunFolder, parameter_names: list[str], identity: dict[str, str]) -> None:
        self.run, self.names, self.identity = run, parameter_names, identity
        self.folder = run.checkpoints

    def setup(self, trainer: Trainer) -> None:
        """Resumes from the newest checkpoint, if there is one."""
        name = latest_checkpoint(self.folder)
        if name is None:
            return
        tensors, trainer.state = load_checkpoint(self.folder, name, self.identity)
        optimizer = {k: tensors.pop(k) for k in list(tensors) if k.startswith("optimizer/")}
        self._load(trainer, tensors, name)
        restore_optimizer(trainer.optimizer, self.names, optimizer)
        if trainer.accelerator.scaler is not None and trainer.state.scaler:
            trainer.accelerator.scaler.load_state_dict(trainer.state.scaler)
        if (self.folder / "best.json").is_file():
            # A damaged one is reported now, not at the end.
            load_checkpoint(self.folder, "best", self.identity)
        else:  # removed after damage: the best is chosen among the validations still to come
            trainer.state.best_accuracy, trainer.state.evaluations_since_best = -1.0, 0

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        if evaluation.improved and trainer.accelerator.is_main_process:
            weights = learned_state(trainer.training_step)
            save_checkpoint(self.folder, "best", weights, trainer.state, self.identity)

    def on_step_end(self, trainer: Trainer) -> None:
        if not trainer.should_save:
            return
        accelerator, state = trainer.accelerator, trainer.state
        if accelerator.is_main_process:
            if accelerator.scaler is not None:
                state.scaler = accelerator.scaler.state_dict()
            tensors = learned_state(trainer.training_step) | flatten_optimizer(trainer.optimizer, self.names)
            save_checkpoint(self.folder, f"step-{state.step:08d}", tensors, state, self.identity)
            prune_checkpoints(self.folder)
        accelerator.wait_for_everyone()

    def on_train_end(self, trainer: Trainer) -> None:
        trainer.accelerator.wait_for_everyone()
        if (self.folder / "best.json").is_file():
            tensors, _ = load_checkpoint(self.folder, "best", self.identity)
            self._load(trainer, tensors, "best")
        elif trainer.state.best_step:
            raise RunError(
                f"{self.folder} has lost the best checkpoint, of step {trainer.state.best_step}; "
                "remove the run folder to train again"
            )

    def _load(self, trainer: Trainer, tensors: dict[str, Tensor], name: str) -> None:
        expected = learned_state(trainer.training_step).keys()
        if expected != tensors.keys():
            different = min(expected ^ tensors.keys())
            raise RunError(f"checkpoint {self.folder / name} does not fit this model ({different})")
        trainer.training_step.load_state_dict(tensors, strict=False)
