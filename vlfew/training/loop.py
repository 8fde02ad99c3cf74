"""The training loop on Accelerate.

Every step is a function of the state before it and of its number (see `vlfew.counting`): a run that
was killed goes on from its last checkpoint to the same weights.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from vlfew.config import Config
from vlfew.counting import seed_at
from vlfew.data.augment import BatchAugment
from vlfew.data.images import LabelledImages
from vlfew.data.sampler import Batch, ClassBalancedSampler
from vlfew.errors import ConfigError, RunError
from vlfew.evaluation import NEEDS_WORDS, PROTOCOLS
from vlfew.evaluation.evaluate import protocol_options
from vlfew.evaluation.subject import Subject
from vlfew.models.saved import save_model
from vlfew.progress import Progress
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
from vlfew.training.optimizer import learning_rate, make_optimizer
from vlfew.training.run import RunFolder
from vlfew.training.setup import build_configured_model, build_objective, choose_precision, pixel_statistics
from vlfew.training.signals import StopRequest
from vlfew.training.step import TrainingStep


class Stopped(RunError):
    """Training was asked to stop, has saved its state, and can be resumed.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class Trainer:
    """Trains the model of a configuration and leaves it in the run folder.

    Args:
        config: checked.
        data: read as the configuration says.
        run: claimed for this configuration.
    """

    def __init__(self, config: Config, data: LabelledImages, run: RunFolder) -> None:
        self.config, self.data, self.run = config, data, run
        t = config.training
        self.accelerator = Accelerator(
            # Without this, processes that a launcher started on CPUs do not find one another.
            cpu=not torch.accelerator.is_available(),
            mixed_precision=choose_precision(t.mixed_precision),
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
            log_with=_trackers(t.trackers),
            project_dir=str(run.path),
        )
        self.sampler = ClassBalancedSampler(data, "train", seed=config.seed, **config.sampling.model_dump())
        self.batch_size = config.sampling.classes * config.sampling.pictures
        if self.batch_size % self.accelerator.num_processes:
            raise ConfigError(
                f"a batch of {self.batch_size} pictures (sampling.classes x sampling.pictures) cannot be "
                f"shared equally by {self.accelerator.num_processes} processes"
            )
        self.augment = BatchAugment(config.augment, config.seed)
        objective = build_objective(config, data)
        self.model = build_configured_model(config, objective)
        self.model.set_pixel_statistics(*pixel_statistics(data, "train"))
        self.module = TrainingStep(self.model, objective)
        self.optimizer, self.names = make_optimizer(self.module, config.optim)
        self.progressed = Progressed()
        self.about = {"data fingerprint": data.fingerprint}
        self.selection = selection(config, data, self.model.has_text)
        self.words = self._prepare_words() if objective.needs_words else None
        if t.compile:
            self.model.backbone.compile()

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def describe(self) -> list[str]:
        """What will be trained, in a few lines for people."""
        trained = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.module.parameters() if not p.requires_grad)
        train = self.data.indices("train")
        terms = " + ".join(f"{w:g} {name}" for name, w in self.module.objective.weights.items())
        place = f"{self.accelerator.num_processes} process(es) on {self.accelerator.device.type}"
        lines = [
            f"data       {self.data.name}: {len(train):,} training pictures of "
            f"{len(self.data.classes('train')):,} classes",
            f"streams    {self.config.image.backbone}"
            + (f" + {self.config.text.encoder}" if self.model.has_text else ", no words")
            + f": {trained:,} parameters trained, {frozen:,} frozen",
            f"objective  {terms}",
            f"running    {self.config.optim.steps:,} steps of {self.batch_size} pictures, {place}, "
            f"precision {self.accelerator.mixed_precision}",
        ]
        return lines + [f"note       {line}" for line in self.notes()]

    def notes(self) -> list[str]:
        """What a reader of the log and the results must know about the objective."""
        objective = self.module.objective
        if not objective.dropped:
            return []
        left = (
            "the fallback " + ", ".join(objective.weights)
            if objective.fell_back
            else ", ".join(objective.weights)
        )
        why = "class names are codes, not words" if not self.data.names_are_words else "no text encoder"
        return [f"{', '.join(objective.dropped)} dropped: {why}; training on {left}"]

    def train(self) -> None:
        """Runs to the end, or from the last checkpoint on; then saves the best model.

        Raises:
            Stopped: on SIGTERM or Ctrl-C, with the state saved.
            RunError: the loss is no longer a number, or a checkpoint is damaged.
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
            upcoming = pool.submit(self._fetch, self.progressed.step * config.training.accumulation)
            while self.progressed.step < config.optim.steps:
                step = self.progressed.step
                rate = learning_rate(config.optim, step)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                loss, terms, upcoming = self._step(module, step, upcoming, pool)
                bad_step = torch.where((bad_step < 0) & ~loss.isfinite(), step + 1, bad_step)
                self.progressed.step = step = step + 1
                self.progressed.seconds = before + time.monotonic() - started
                last = step == config.optim.steps
                stopping = self._asked_to_stop(stop)
                t = config.training
                at_log = step % t.log_every == 0 or last
                at_validation = step % t.validate_every == 0 or last
                at_checkpoint = step % t.checkpoint_every == 0 or stopping or last
                bar.step(note=f"loss {loss.item():.3f}" if at_log else "")
                if at_log or at_validation or at_checkpoint:
                    self._require_finite(int(bad_step))
                if at_log:
                    now = time.monotonic()
                    speed = (step - since_step) * self.batch_size * t.accumulation / (now - since)
                    since, since_step = now, step
                    self._log({"loss": loss.item()} | {k: v.item() for k, v in terms.items()}, rate, speed)
                if at_validation:
                    self._validate(bar)
                    module.train()
                    since, since_step = time.monotonic(), step
                if at_checkpoint:
                    self._checkpoint()
                if t.patience is not None and self.progressed.stale >= t.patience and not last:
                    bar.print(
                        f"stopped early at step {step}: no better since step {self.progressed.best_step}"
                    )
                    break
                if stopping and not last:
                    upcoming.cancel()
                    raise Stopped(
                        f"stopped at step {step} of {config.optim.steps}, state saved in {self.run.path}; "
                        f"the same command again goes on from there",
                        stop.signal or 15,
                    )
        self._finish()

    def _fetch(self, number: int) -> tuple[Batch, Tensor]:
        """Batch `number` and this process's share of its pictures, uint8."""
        batch = self.sampler.batch(number)
        share = self.batch_size // self.accelerator.num_processes
        start = share * self.accelerator.process_index
        return batch, self.data.images.batch(batch.index[start : start + share])

    def _step(
        self, module: Any, step: int, upcoming: Future[tuple[Batch, Tensor]], pool: ThreadPoolExecutor
    ) -> tuple[Tensor, dict[str, Tensor], Future[tuple[Batch, Tensor]]]:
        """One optimiser step; gives the mean loss, its terms, and the fetch of the next batch."""
        accelerator, accumulation = self.accelerator, self.config.training.accumulation
        self.optimizer.zero_grad()
        losses: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for micro in range(accumulation):
            number = step * accumulation + micro
            batch, images = upcoming.result()
            upcoming = pool.submit(self._fetch, number + 1)
            start = len(images) * accelerator.process_index
            pixels = self.augment(images.to(accelerator.device), number, self.batch_size, start)
            torch.manual_seed(seed_at(self.config.seed, "dropout", number))
            more = micro + 1 < accumulation
            with accelerator.no_sync(module) if more else nullcontext():
                loss, terms = module(pixels, batch.labels.to(accelerator.device), *self._words_of(batch))
                accelerator.backward(loss / accumulation)
            losses.append(loss.detach())
        if self.config.optim.clip is not None:
            accelerator.clip_grad_norm_(module.parameters(), self.config.optim.clip)
        self.optimizer.step()
        return torch.stack(losses).mean(), terms, upcoming

    def _prepare_words(self) -> Tensor | None:
        """Vectors of the training classes' texts by the frozen encoder, computed once: `[texts, D_text]`."""
        encoder = self.model.text_encoder
        assert encoder is not None
        self._first_text = torch.tensor([0, *map(len, self.data.class_texts)]).cumsum(0)
        self._texts = [text for texts in self.data.class_texts for text in texts]
        if not self.config.text.frozen:
            return None
        # Only what is trained on: the names of held-out classes are not even encoded here.
        used = [
            number
            for c in self.data.classes("train").tolist()
            for number in range(int(self._first_text[c]), int(self._first_text[c + 1]))
        ]
        self._row = torch.zeros(len(self._texts), dtype=torch.long)
        self._row[used] = torch.arange(len(used))
        encoded = encoder.to(self.accelerator.device).encode([self._texts[n] for n in used])
        return encoded.to(self.accelerator.device)

    def _words_of(self, batch: Batch) -> tuple[Tensor | dict[str, Tensor], Tensor] | tuple[()]:
        """The texts of a batch, as `TrainingStep` takes them, and their classes `[T]`."""
        if not self.module.objective.needs_words:
            return ()
        device = self.accelerator.device
        number = self._first_text[batch.words] + batch.text
        if self.words is not None:
            return self.words[self._row[number].to(device)], batch.words.to(device)
        assert self.model.text_encoder is not None
        tokens = self.model.text_encoder.tokenize([self._texts[i] for i in number.tolist()])
        return {name: value.to(device) for name, value in tokens.items()}, batch.words.to(device)

    def _asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether any process was: all must leave at the same step."""
        if self.accelerator.num_processes == 1:
            return stop.signal != 0
        if stop.signal:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _require_finite(self, bad_step: int) -> None:
        if bad_step < 0:
            return
        good = latest_checkpoint(self.run.checkpoints)
        kept = (
            f"the last good checkpoint is {self.run.checkpoints / good}"
            if good
            else "no checkpoint was made yet"
        )
        raise RunError(
            f"the loss is not a number since step {bad_step}; {kept}; "
            f"try a lower optim.lr, optim.clip, or training.mixed_precision=no, under another name=..."
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
        accuracy = torch.zeros(1, device=self.accelerator.device)
        protocol, options = self.selection
        if self.main:
            outcome = PROTOCOLS.get(protocol)(Subject(self.model, self.data), **options)
            accuracy[0] = outcome.accuracy
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast(accuracy, src=0)
        value, p = accuracy.item(), self.progressed
        better = value > p.best
        p.stale = 0 if better else p.stale + 1
        if better:
            p.best, p.best_step = value, p.step
            if self.main:
                save_checkpoint(self.run.checkpoints, "best", learned_state(self.module), p, self.about)
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

    def _checkpoint(self) -> None:
        if self.main:
            inner = getattr(self.optimizer, "optimizer", self.optimizer)
            state = learned_state(self.module) | flatten_optimizer(inner, self.names)
            name = f"step-{self.progressed.step:08d}"
            save_checkpoint(self.run.checkpoints, name, state, self.progressed, self.about)
            prune_checkpoints(self.run.checkpoints)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        """Takes up the newest checkpoint, if there is one."""
        name = latest_checkpoint(self.run.checkpoints)
        if name is None:
            if self.main:
                self.run.rewind_log(0)
            return
        state, self.progressed = load_checkpoint(self.run.checkpoints, name, self.about)
        optimizer = {k: state.pop(k) for k in list(state) if k.startswith("optimizer/")}
        self._load_learned(state, name)
        restore_optimizer(self.optimizer, self.names, optimizer)
        if self.main:
            self.run.rewind_log(self.progressed.step)

    def _load_learned(self, state: dict[str, Tensor], name: str) -> None:
        expected = learned_state(self.module).keys()
        if expected != state.keys():
            odd = sorted(expected ^ state.keys())[0]
            raise RunError(f"checkpoint {self.run.checkpoints / name} does not fit this model ({odd})")
        self.module.load_state_dict(state, strict=False)

    def _finish(self) -> None:
        """Saves the best model; every process ends with its weights."""
        self.accelerator.wait_for_everyone()
        state, best = load_checkpoint(self.run.checkpoints, "best", self.about)
        self._load_learned(state, "best")
        if self.main:
            about = {
                "trained_on": f"{self.data.name}/train",
                "data_fingerprint": self.data.fingerprint,
                "best_step": best.best_step,
                "precision": self.accelerator.mixed_precision,
                "seconds": round(self.progressed.seconds, 1),
                "notes": self.notes(),
            }
            save_model(self.model, self.run.path, about)
        if self.config.training.trackers:
            self.accelerator.end_training()
        self.accelerator.wait_for_everyone()


def selection(config: Config, data: LabelledImages, has_text: bool) -> tuple[str, dict[str, Any]]:
    """Protocol and options by which checkpoints are compared; never on the test split.

    When none is configured, or the configured one needs words that the run has not: one-shot
    episodes, 5-way with 15 queries or as large as the validation split allows.

    Raises:
        ConfigError: another split than `val` was asked for.
    """
    chosen = config.select
    if chosen is not None and (has_text or chosen.protocol not in NEEDS_WORDS):
        options = {"split": "val"} | chosen.options
        if options["split"] != "val":
            raise ConfigError(
                f"select.split must be 'val', not {options['split']!r}: models are not chosen on other splits"
            )
        return chosen.protocol, protocol_options(chosen.protocol, options)
    sizes = [len(index) for index in data.by_class("val").values()]
    queries = max(1, min(15, min(sizes) - 1))
    options = {"split": "val", "ways": min(5, len(sizes)), "queries": queries, "episodes": 500}
    return "few-shot", protocol_options("few-shot", options)


def _trackers(names: list[Any]) -> list[Any] | None:
    from importlib.util import find_spec

    if "tensorboard" in names and find_spec("tensorboard") is None:
        raise ConfigError(
            "training.trackers: tensorboard is not installed (pip install 'vlfew[tensorboard]')"
        )
    return names or None
