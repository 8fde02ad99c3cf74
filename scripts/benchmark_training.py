"""Training steps of Conv4: against a plain PyTorch loop, and with real against resident batches.

The plain loop is float32, NCHW, torch defaults, one resident batch. All sides take turns in one process; figures are
medians over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlfew.data.labeled_images import ImageStore
    from vlfew.training.trainer import Trainer

CLASSES, IMAGES = 16, 8
"""A batch of 128."""
AUGMENT = {"rotate": 10, "scale": 0.2, "translate": 0.1, "hflip": 0.5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-size", type=int, default=84)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="steps of each side in a round")
    parser.add_argument("--rounds", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    from vlfew.training.hardware import use_all_cores

    use_all_cores()

    def side(folder: str, resident: bool, augment: bool) -> Callable[[], object]:
        config = configuration({"backbone": "conv4", "width": args.width}, args.image_size, CLASSES, IMAGES)
        config["data"]["channels"] = args.channels
        if not augment:
            config["augment"] = {}
        store = random_images(64 * 40, args.channels, args.image_size)
        return stepper(trainer_on(store, 64, config, Path(folder)), resident)

    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "plain loop, float32 NCHW": _plain(args),
            "vlfew, real batches": side(f"{folder}/a", resident=False, augment=True),
            "vlfew, resident batch": side(f"{folder}/b", resident=True, augment=True),
            "vlfew, no augmentation": side(f"{folder}/c", resident=True, augment=False),
        }
        times = in_turns(sides, args.steps, args.rounds)
    batch = CLASSES * IMAGES
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"{name:<26} {1000 * median:7.1f} ms a step [{1000 * min(seconds):.1f}, {1000 * max(seconds):.1f}]"
            f"  {batch / median:7.0f} images/s"
        )
    plain, real, resident, bare = (statistics.median(s) for s in times.values())
    print(f"throughput against the plain loop     {plain / real:.2f}x")
    print(f"step with real over resident batch    {real / resident:.3f}")
    print(f"share of augmentation in a step       {1 - bare / resident:.1%}")


def in_turns(sides: dict[str, Callable[[], object]], steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each side, one number a round; the first call of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for step in sides.values():
        step()
    for _ in range(rounds):
        for name, step in sides.items():
            _wait()
            start = time.perf_counter()
            for _ in range(steps):
                step()
            _wait()
            times[name].append((time.perf_counter() - start) / steps)
    return times


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def random_images(count: int, channels: int, size: int) -> ImageStore:
    import torch

    from vlfew.data.labeled_images import InMemory

    return InMemory(torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8))


def configuration(image: dict[str, Any], image_size: int, classes: int, images: int) -> dict[str, Any]:
    """A configuration that trains an image encoder by supervised contrastive loss with augmentation."""
    return {
        "data": {"image_size": image_size, "channels": 3},
        "image": image,
        "text": {"encoder": None},
        "objective": [{"loss": "supervised_contrastive"}],
        "sampling": {"classes_per_batch": classes, "images_per_class": images},
        "augment": AUGMENT,
        "optim": {"steps": 10**6},
        "training": {"log_every": 10**6, "eval_every": 10**6, "save_every": 10**6},
    }


def trainer_on(store: ImageStore, classes: int, values: dict[str, Any], folder: Path) -> Trainer:
    """A trainer on images of `classes` classes in equal numbers."""
    import torch

    from vlfew.core.config import Config
    from vlfew.data.labeled_images import LabeledImages
    from vlfew.training.run_folder import RunFolder
    from vlfew.workflows.assemble import assemble
    from vlfew.workflows.train import make_trainer

    data = LabeledImages(
        name="random",
        images=store,
        labels=torch.arange(classes).repeat_interleave(len(store) // classes),
        class_names=tuple(f"c{c}" for c in range(classes)),
        splits={"train": torch.arange(len(store))},
        fingerprint="random",
    )
    config, run = Config.model_validate(values), RunFolder(folder)
    trainer = make_trainer(config, assemble(config, run, data), run)
    trainer.module.train()
    return trainer


def stepper(trainer: Trainer, resident: bool) -> Callable[[], object]:
    """One optimizer step, on the trainer's own batches or always on the first."""
    batches = trainer.batches()
    chosen = itertools.repeat(next(batches)) if resident else batches
    return lambda: trainer.optimizer_step(chosen)


def _plain(args: argparse.Namespace) -> Callable[[], object]:
    """A textbook training step on one batch."""
    import torch
    from torch import nn

    from vlfew.core.features import Features
    from vlfew.losses.batch import EncodedBatch
    from vlfew.losses.supervised_contrastive import SupervisedContrastiveLoss

    layers: list[nn.Module] = []
    for before, after in ((args.channels, args.width), *[(args.width, args.width)] * 3):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    dim = args.width * (args.image_size // 16) ** 2
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(dim, 256))
    loss = SupervisedContrastiveLoss()
    optimizer = torch.optim.AdamW(model.parameters())
    images = torch.randn(CLASSES * IMAGES, args.channels, args.image_size, args.image_size)
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(EncodedBatch(Features(model(images)), labels))
        value.backward()
        optimizer.step()
        return value.item()

    return step
