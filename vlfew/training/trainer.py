"""The training loop on Accelerate.

Every step is a function of the state before it and of its number (see `vlfew.core.random`): a run that
was killed goes on from its last checkpoint to the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor

from vlfew.core.config import Config
from vlfew.core.errors import ConfigError, RunError
from vlfew.core.progress import Progress
from vlfew.core.random import seed_at
from vlfew.data.augmentation import BatchAugment
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers import make_sampler
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.context import EvaluationContext
from vlfew.losses.batch import BatchPairs
from vlfew.models.serialization import save_model
from vlfew.training.checkpoint import (
    Progressed,
    flatten_optimizer,
    latest_checkpoint,
    learned_state,
    load_checkpoint,
    prune_checkpoints,
    restore_optimizer,
    save_checkpoint,
)
from vlfew.training.gradient_cache import average_gradients, backward_in_chunks, check_no_batch_norm
from vlfew.training.optimizer import make_optimizer, set_rates
from vlfew.training.run_folder import RunFolder
from vlfew.training.signals import StopRequest
from vlfew.training.summary import describe, training_notes
from vlfew.training.text_batches import TextBatches
from vlfew.training.training_step import TrainingStep
from vlfew.workflows.assemble import (
    begin,
    build_configured_model,
    build_objective,
    choose_objective,
    choose_precision,
    fit_class_reference,
    selection,
)


class TrainingInterrupted(RunError):
    """Training was asked to stop, has saved its state, and can be resumed.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class DivergenceError(RunError):
    """The loss or the weights are no longer numbers."""


class Trainer:
    """Trains the model of a configuration and leaves it in the run folder.

    Args:
        config: checked.
        data: read as the configuration says.
        run: claimed for this configuration.
        on_validation: is told the step and the accuracy of each validation; what it raises ends the training.
    """

    def __init__(
        self,
        config: Config,
        data: LabeledImages,
        run: RunFolder,
        on_validation: Callable[[int, float], None] | None = None,
    ) -> None:
        self.config, self.data, self.run = config, data, run
        self.on_validation = on_validation
        t = config.training
        # Accelerate holds on to the first precision of a process; a further run may want another.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            # Without this, processes that a launcher started on CPUs do not find one another.
            cpu=not torch.accelerator.is_available(),
            mixed_precision=choose_precision(t.mixed_precision),
            # The others wait while one process validates, evaluates and reports.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=4))],
            log_with=_trackers(t.trackers),
            project_dir=str(run.path),
        )
        self.sampler = make_sampler(data, "train", config.sampling, config.seed)
        self.batch_size = config.sampling.batch_size
        if self.batch_size % self.accelerator.num_processes:
            raise ConfigError(
                f"a batch of {self.batch_size} images (see sampling) cannot be shared equally by "
                f"{self.accelerator.num_processes} processes"
            )
        self.augment = BatchAugment(config.augment, config.seed)
        chosen = choose_objective(config, data)
        self.model = build_configured_model(config, chosen, len(data.classes("train")))
        self.start = begin(self.model, data, config.init_from)
        self.module = TrainingStep(
            self.model, build_objective(chosen, self.model, data), data.classes("train")
        )
        if self.module.objective.leaves_out:
            # Else processes would wait for gradients that nothing at this step has.
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.optimizer, self.names = make_optimizer(self.module, config.optim)
        if not self.names:
            raise ConfigError("nothing is trained: every stream is frozen and nothing is learned on top")
        self.progressed = Progressed()
        self.metadata = {"data fingerprint": data.fingerprint}
        if self.start is not None:
            self.metadata["weights to start from"] = self.start.metadata["fingerprint"]
        self.selection = selection(config, data, self.model.has_text)
        self.words = (
            TextBatches(self.model.text_encoder, data, config.text.fixed, self.accelerator.device)
            if self.model.text_encoder is not None
            else None
        )
        if t.gradient_cache is not None:
            check_no_batch_norm(self.model.train())
        if t.compile:
            self.model.backbone.compile()
            if self.model.right_backbone is not None:
                self.model.right_backbone.compile()

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def describe(self) -> list[str]:
        """What will be trained, in a few lines for people."""
        lines = describe(self.config, self.data, self.module, self.accelerator)
        return lines + [f"note       {line}" for line in self.notes()]

    def notes(self) -> list[str]:
        """What a reader of the log and the results must know about the training."""
        return training_notes(
            self.config, self.start, self.selection is not None, self.module.objective.chosen, self.data
        )

    def train(self) -> None:
        """Runs to the end, or from the last checkpoint on; then saves the best model, or else the last.

        Raises:
            TrainingInterrupted: on SIGTERM or Ctrl-C, with the state saved.
            DivergenceError: the loss is no longer a number.
            RunError: a checkpoint is damaged.
        """
        self._resume()
        config, accelerator = self.config, self.accelerator
        module, self.optimizer = accelerator.prepare(self.module, self.optimizer)
        module.train()
        if config.training.trackers:
            accelerator.init_trackers("tensorboard")
        bad_step = torch.tensor(-1, device=accelerator.device)
        since, since_step, started = time.monotonic(), self.progressed.step, time.monotonic()
        before = self.progressed.seconds
        with (
            StopRequest() as stop,
            ThreadPoolExecutor(1) as pool,
            Progress("training", config.optim.steps, "steps", start=self.progressed.step) as bar,
        ):
            upcoming = pool.submit(
                self._fetch, self.progressed.step * config.training.gradient_accumulation_steps
            )
            while self.progressed.step < config.optim.steps and not self._stale():
                step = self.progressed.step
                rate = set_rates(self.optimizer, config.optim, step)
                loss, terms, upcoming = self._step(module, step, upcoming, pool)
                bad_step = torch.where((bad_step < 0) & ~loss.isfinite(), step + 1, bad_step)
                self.progressed.step = step = step + 1
                self.progressed.seconds = before + time.monotonic() - started
                last = step == config.optim.steps
                stopping = self._asked_to_stop(stop)
                t = config.training
                at_log = step % t.log_every == 0 or last
                at_validation = self.selection is not None and (step % t.eval_every == 0 or last)
                at_checkpoint = step % t.save_every == 0 or stopping or last
                bar.step(note=f"loss {loss.item():.3f}" if at_log else "")
                if at_log or at_validation or at_checkpoint:
                    self._check_finite(int(bad_step), weights=at_validation or at_checkpoint)
                if at_log:
                    now = time.monotonic()
                    speed = (
                        (step - since_step) * self.batch_size * t.gradient_accumulation_steps / (now - since)
                    )
                    since, since_step = now, step
                    self._log({"loss": loss.item()} | {k: v.item() for k, v in terms.items()}, rate, speed)
                if at_validation:
                    self._validate(bar)
                    module.train()
                    since, since_step = time.monotonic(), step
                if at_checkpoint:
                    self._checkpoint()
                if stopping and not last and not self._stale():
                    upcoming.cancel()
                    raise TrainingInterrupted(
                        f"stopped at step {step} of {config.optim.steps}, state saved in {self.run.path}; "
                        f"the same command again goes on from there",
                        stop.signal or 15,
                    )
            if self.progressed.step < config.optim.steps:
                at, best = self.progressed.step, self.progressed.best_step
                bar.print(f"stopped early at step {at}: no better since step {best}")
        self._finish()

    def _stale(self) -> bool:
        """Whether patience has run out."""
        patience = self.config.training.patience
        return patience is not None and self.progressed.stale >= patience

    def _fetch(self, number: int) -> tuple[Batch, Tensor]:
        """Batch `number` and this process's share of its images, uint8."""
        batch = self.sampler.batch(number)
        share = self.batch_size // self.accelerator.num_processes
        start = share * self.accelerator.process_index
        return batch, self.data.images.batch(batch.index[start : start + share])

    def _step(
        self, module: Any, step: int, upcoming: Future[tuple[Batch, Tensor]], pool: ThreadPoolExecutor
    ) -> tuple[Tensor, dict[str, Tensor], Future[tuple[Batch, Tensor]]]:
        """One optimizer step; gives the mean loss, its terms, and the fetch of the next batch."""
        accelerator, accumulation = self.accelerator, self.config.training.gradient_accumulation_steps
        self.optimizer.zero_grad()
        losses: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for micro in range(accumulation):
            number = step * accumulation + micro
            batch, images = upcoming.result()
            upcoming = pool.submit(self._fetch, number + 1)
            start = len(images) * accelerator.process_index
            seed = seed_at(self.config.seed, "dropout", number)
            own_seed = seed_at(self.config.seed, "dropout", number, accelerator.process_index)
            labels, pairs = batch.labels.to(accelerator.device), self._pairs(batch)
            words, text_labels = self.words(batch) if self.words is not None else (None, None)
            progress = step / self.config.optim.steps
            shown = partial(self._shown, images, number, start)
            if (chunk := self.config.training.gradient_cache) is not None:
                judge = partial(
                    self.module.judge, labels=labels, text_labels=text_labels, pairs=pairs, progress=progress
                )
                loss, terms = backward_in_chunks(
                    self.module,
                    accelerator,
                    (shown, len(images)),
                    words,
                    judge,
                    size=chunk,
                    seeds=(own_seed, seed),
                    share=1 / accumulation,
                )
            else:
                pixels = shown(0, len(images))
                torch.manual_seed(seed)
                more = micro + 1 < accumulation
                with accelerator.no_sync(module) if more else nullcontext():
                    loss, terms = module(pixels, labels, words, text_labels, own_seed, pairs, progress)
                    accelerator.backward(loss / accumulation)
            losses.append(loss.detach())
        if self.config.training.gradient_cache is not None:
            average_gradients(self.module)
        if self.config.optim.max_grad_norm is not None:
            accelerator.clip_grad_norm_(module.parameters(), self.config.optim.max_grad_norm)
        self.optimizer.step()
        return torch.stack(losses).mean(), terms, upcoming

    def _shown(self, images: Tensor, number: int, place: int, first: int, last: int) -> Tensor:
        """Images `first` to `last` of this process's share of batch `number`, which begins at `place`, augmented.

        What happens to an image is a function of its place: asked again, it is the same.
        """
        pixels = images[first:last].to(self.accelerator.device)
        return self.augment(pixels, number, self.batch_size, place + first)

    def _pairs(self, batch: Batch) -> BatchPairs | None:
        return batch.pairs and BatchPairs(*(t.to(self.accelerator.device) for t in batch.pairs))

    def _asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process was: all must leave at the same step."""
        if self.accelerator.num_processes == 1:
            return stop.signal != 0
        if stop.signal:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _check_finite(self, bad_step: int, weights: bool) -> None:
        """Stops before anything is saved of a model that has come apart.

        Args:
            bad_step: first step whose loss was not a number, or -1.
            weights: look at the weights too, which a step can spoil after a sound loss.
        """
        if bad_step < 0 and weights:
            state = learned_state(self.module).values()
            if not all(bool(value.isfinite().all()) for value in state if value.is_floating_point()):
                bad_step = self.progressed.step
        if bad_step < 0:
            return
        good = latest_checkpoint(self.run.checkpoints)
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint was made yet"
        raise DivergenceError(
            f"the loss is not a number since step {bad_step}; {kept} (in {self.run.checkpoints}); "
            f"try a lower optim.lr, optim.max_grad_norm, or training.mixed_precision=no, under another name=..."
        )

    def _log(self, losses: dict[str, float], rate: float, speed: float) -> None:
        if not self.main:
            return
        entry = {"step": self.progressed.step, **losses, "lr": rate, "images_per_second": round(speed, 1)}
        self.run.append_log(entry | {"seconds": round(self.progressed.seconds, 1)})
        if self.config.training.trackers:
            self.accelerator.log(losses | {"lr": rate}, step=self.progressed.step)

    def _validate(self, bar: Progress) -> None:
        """Scores the validation split on the main process; keeps the model if it is the best yet."""
        assert self.selection is not None
        accuracy = torch.zeros(1, device=self.accelerator.device)
        protocol, options = self.selection
        if self.main:
            fit_class_reference(self.model, self.data, "train")
            outcome = PROTOCOLS.get(protocol)(EvaluationContext(self.model, self.data), **options)
            accuracy[0] = outcome.accuracy
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast(accuracy, src=0)
        value, p = accuracy.item(), self.progressed
        better = value > p.best
        # A stage that is still to come is given its chance.
        waits = p.step <= self.module.objective.last_start * self.config.optim.steps
        p.stale = 0 if better or waits else p.stale + 1
        if better:
            p.best, p.best_step = value, p.step
            if self.main:
                save_checkpoint(self.run.checkpoints, "best", learned_state(self.module), p, self.metadata)
        if self.main:
            self.run.append_log(
                {
                    "step": p.step,
                    "validation": {"protocol": protocol, "accuracy": value, "best": better},
                    "seconds": round(p.seconds, 1),
                }
            )
            bar.print(
                f"step {p.step:>6,}  {protocol} on {options['split']} {100 * value:5.2f}%"
                f"{' *' if better else ''}  ({p.seconds:.0f} s)"
            )
            if self.config.training.trackers:
                self.accelerator.log({f"validation/{protocol}": value}, step=p.step)
        if self.on_validation is not None:
            self.on_validation(p.step, value)

    def _checkpoint(self) -> None:
        if self.main:
            inner = getattr(self.optimizer, "optimizer", self.optimizer)
            if self.accelerator.scaler is not None:
                self.progressed.scaler = self.accelerator.scaler.state_dict()
            state = learned_state(self.module) | flatten_optimizer(inner, self.names)
            name = f"step-{self.progressed.step:08d}"
            save_checkpoint(self.run.checkpoints, name, state, self.progressed, self.metadata)
            prune_checkpoints(self.run.checkpoints)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        """Takes up the newest checkpoint, if there is one."""
        name = latest_checkpoint(self.run.checkpoints)
        if name is None:
            if self.main:
                self.run.rewind_log(0)
            return
        state, self.progressed = load_checkpoint(self.run.checkpoints, name, self.metadata)
        optimizer = {k: state.pop(k) for k in list(state) if k.startswith("optimizer/")}
        self._load_learned(state, name)
        restore_optimizer(self.optimizer, self.names, optimizer)
        if self.accelerator.scaler is not None and self.progressed.scaler:
            self.accelerator.scaler.load_state_dict(self.progressed.scaler)
        if (self.run.checkpoints / "best.json").is_file():
            load_checkpoint(self.run.checkpoints, "best", self.metadata)
        else:  # removed after damage: the best is chosen among the validations still to come
            self.progressed.best, self.progressed.stale = -1.0, 0
        if self.main:
            self.run.rewind_log(self.progressed.step)

    def _load_learned(self, state: dict[str, Tensor], name: str) -> None:
        expected = learned_state(self.module).keys()
        if expected != state.keys():
            odd = sorted(expected ^ state.keys())[0]
            raise RunError(f"checkpoint {self.run.checkpoints / name} does not fit this model ({odd})")
        self.module.load_state_dict(state, strict=False)

    def _finish(self) -> None:
        """Saves the best model, or the last without validation; every process ends with its weights."""
        self.accelerator.wait_for_everyone()
        kept: dict[str, Any] = {}
        if self.selection is not None:
            state, best = load_checkpoint(self.run.checkpoints, "best", self.metadata)
            self._load_learned(state, "best")
            kept = {"best_step": best.best_step}
        elif self.main:
            fit_class_reference(self.model, self.data, "train")
        if self.main:
            metadata = {
                "trained_on": f"{self.data.name}/train",
                "data_fingerprint": self.data.fingerprint,
                **kept,
                "precision": self.accelerator.mixed_precision,
                "seconds": round(self.progressed.seconds, 1),
                "notes": self.notes(),
                **({} if self.start is None else {"started_from": self.start.metadata}),
            }
            save_model(self.model, self.run.path, metadata)
        self.accelerator.wait_for_everyone()


def _trackers(names: list[Any]) -> list[Any] | None:
    from importlib.util import find_spec

    if "tensorboard" in names and find_spec("tensorboard") is None:
        raise ConfigError(
            "training.trackers: tensorboard is not installed (pip install 'vlfew[tensorboard]')"
        )
    return names or None
