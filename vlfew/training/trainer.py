"""The training loop on Accelerate.

Each step is a function of the state before it and of its number (see `vlfew.core.random`), so that an interrupted run
resumes from its last checkpoint to the same weights. Everything around the steps is done by callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from time import monotonic

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from vlfew.core.random import seed_at
from vlfew.training.batches import BatchLoader, TrainingBatch
from vlfew.training.callbacks import Callback
from vlfew.training.checkpoint import TrainingState
from vlfew.training.gradient_cache import average_gradients, backward_in_chunks
from vlfew.training.training_step import TrainingStep


class Trainer:
    """Trains a model on numbered batches.

    Args:
        training_step: model and objective as one module, on the accelerator's device.
        loader: of the batches.
        optimizer: over the trained parameters of `training_step`.
        schedule: sets the optimizer's learning rate and momentum for a step, and returns the learning rate.
        accelerator: device, processes and precision.
        steps: optimizer steps.
        callbacks: called in this order.
        seed: of dropout.
        gradient_accumulation_steps: batches per optimizer step.
        gradient_cache: images that are encoded at a time, so that a large batch fits in memory (see
            `vlfew.training.gradient_cache`); None for all at once.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        log_every, eval_every, save_every: steps between logs, validations and checkpoints.

    Attributes:
        module: `training_step` as Accelerate prepared it.
        state: step, best validation and time so far; saved in checkpoints.
        loss: of the last step, a scalar on the device.
        logs: of the last logged step: the loss, averaged over its batches, the terms of the last of them, and the
            learning rate.
        should_log, should_evaluate, should_save: whether the step that just ended is logged, validated, saved.
        should_stop: set by a callback to end the training after this step.
        stopped_early: set by `EarlyStopping`.
    """

    def __init__(
        self,
        training_step: TrainingStep,
        loader: BatchLoader,
        optimizer: Optimizer,
        schedule: Callable[[Optimizer, int], float],
        accelerator: Accelerator,
        steps: int,
        callbacks: Sequence[Callback] = (),
        *,
        seed: int = 0,
        gradient_accumulation_steps: int = 1,
        gradient_cache: int | None = None,
        max_grad_norm: float | None = None,
        log_every: int = 20,
        eval_every: int = 200,
        save_every: int = 200,
    ) -> None:
        self.training_step, self.loader, self.schedule = training_step, loader, schedule
        self.accelerator, self.steps, self.callbacks, self.seed = accelerator, steps, callbacks, seed
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.gradient_cache, self.max_grad_norm = gradient_cache, max_grad_norm
        self.log_every, self.eval_every, self.save_every = log_every, eval_every, save_every
        self.module, self.optimizer = accelerator.prepare(training_step, optimizer)
        self.state = TrainingState()
        self.loss: Tensor = torch.zeros((), device=accelerator.device)
        self.logs: dict[str, float] = {}
        self.should_log = self.should_evaluate = self.should_save = False
        self.should_stop = self.stopped_early = False

    def train(self) -> None:
        """Trains to the last step, from the newest checkpoint where the callbacks include `Checkpointing`.

        Raises:
            KeyboardInterrupt: from `StopSignal` on Ctrl-C, after a checkpoint was saved.
            TrainingInterrupted: from `StopSignal`, where another process received the signal.
            DivergenceError: from `DivergenceCheck`, when loss or weights are no longer finite.
            RunError: from `Checkpointing`, when a checkpoint is damaged.
        """
        with ExitStack() as stack:
            for callback in self.callbacks:  # all are torn down, the last one first, even where one fails
                stack.callback(callback.teardown, self)
            self.call_event("setup")
            self.call_event("on_train_begin")
            self.module.train()
            started = monotonic() - self.state.seconds
            with closing(self.batches()) as batches:
                while self.state.step < self.steps and not self.should_stop:
                    self.optimizer_step(batches)
                    self.state.seconds = monotonic() - started
                    self.call_event("on_step_end")
            self.call_event("on_train_end")

    def batches(self) -> Generator[TrainingBatch, None, None]:
        """The batches from the current step on."""
        per_step = self.gradient_accumulation_steps
        return self.loader.batches(self.state.step * per_step, self.steps * per_step)

    def optimizer_step(self, batches: Iterator[TrainingBatch]) -> None:
        """One step of the optimizer, over the next `gradient_accumulation_steps` batches."""
        learning_rate = self.schedule(self.optimizer, self.state.step)
        self.optimizer.zero_grad()
        batch_losses: list[Tensor] = []
        for remaining in reversed(range(self.gradient_accumulation_steps)):
            loss, loss_terms = self.forward_backward(next(batches), sync_gradients=remaining == 0)
            batch_losses.append(loss.detach())
        if self.gradient_cache is not None:
            average_gradients(self.training_step, self.accelerator)
        if self.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.max_grad_norm)
        self.optimizer.step()

        self.loss = torch.stack(batch_losses).mean()
        self.state.step = step = self.state.step + 1
        self.should_log = step % self.log_every == 0 or step == self.steps
        self.should_evaluate = step % self.eval_every == 0 or step == self.steps
        self.should_save = step % self.save_every == 0 or step == self.steps
        if self.should_log:  # the host waits for the device only here
            values = torch.stack([self.loss, *loss_terms.values()]).tolist()
            self.logs = dict(zip(["loss", *loss_terms], values, strict=True)) | {"lr": learning_rate}

    def forward_backward(
        self, batch: TrainingBatch, sync_gradients: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Adds the gradients of a batch to the parameters; returns its loss and the terms of the objective."""
        image_seed = seed_at(self.seed, "dropout", batch.number, self.accelerator.process_index)
        text_seed = seed_at(self.seed, "dropout", batch.number)
        progress = self.state.step / self.steps
        if self.gradient_cache is not None:
            return backward_in_chunks(
                self.training_step,
                self.accelerator,
                batch,
                progress,
                chunk_size=self.gradient_cache,
                seeds=(image_seed, text_seed),
                loss_weight=1 / self.gradient_accumulation_steps,
            )
        pixels = batch.pixels()
        torch.manual_seed(text_seed)
        with nullcontext() if sync_gradients else self.accelerator.no_sync(self.module):
            loss, loss_terms = self.module(pixels, batch.labels, batch.text, progress, image_seed)
            self.accelerator.backward(loss / self.gradient_accumulation_steps)
        return loss, loss_terms

    def call_event(self, event: str, *arguments: object) -> None:
        """Calls a method of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)
