"""Training steps of Conv4: against a plain PyTorch loop, and with real against resident batches.

The plain loop is float32, NCHW, torch defaults, one resident batch. All sides take turns in one
process; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

CLASSES, IMAGES = 16, 8
"""A batch of 128."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-size", type=int, default=84)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="steps of each side in a round")
    parser.add_argument("--rounds", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    from vlfew.workflows.assemble import use_all_cores

    use_all_cores()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        sides = {
            "plain loop, float32 NCHW": _plain(args),
            "vlfew, real batches": _trainer(args, Path(folder) / "a", pool, resident=False, augment=True),
            "vlfew, resident batch": _trainer(args, Path(folder) / "b", pool, resident=True, augment=True),
            "vlfew, no augmentation": _trainer(args, Path(folder) / "c", pool, resident=True, augment=False),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for step in sides.values():
            step()
        for _ in range(args.rounds):
            for name, step in sides.items():
                start = time.perf_counter()
                for _ in range(args.steps):
                    step()
                times[name].append((time.perf_counter() - start) / args.steps)
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


def _plain(args: argparse.Namespace) -> Callable[[], object]:
    """A textbook training step on one batch."""
    import torch
    from torch import nn

    from vlfew.core.features import Features
    from vlfew.losses.batch import EncodedBatch
    from vlfew.losses.supervised_contrastive import SupervisedContrastive

    layers: list[nn.Module] = []
    for before, after in ((args.channels, args.width), *[(args.width, args.width)] * 3):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    dim = args.width * (args.image_size // 16) ** 2
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(dim, 256))
    loss = SupervisedContrastive()
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


def _trainer(
    args: argparse.Namespace, folder: Path, pool: ThreadPoolExecutor, resident: bool, augment: bool
) -> Callable[[], object]:
    """A step of vlfew's own trainer on images held in memory."""
    import torch

    from vlfew.core.config import Config
    from vlfew.data.labeled_images import InMemory, LabeledImages
    from vlfew.training.run_folder import RunFolder
    from vlfew.training.trainer import Trainer

    classes, each = 64, 40
    shape = (classes * each, args.channels, args.image_size, args.image_size)
    labels = torch.arange(classes).repeat_interleave(each)
    data = LabeledImages(
        name="random",
        images=InMemory(torch.randint(0, 256, shape, dtype=torch.uint8)),
        labels=labels,
        class_names=tuple(f"c{c}" for c in range(classes)),
        names_are_text=False,
        splits={"train": torch.arange(len(labels)), "val": torch.arange(len(labels))},
        fingerprint="random",
    )
    config = Config.model_validate(
        {
            "data": {"image_size": args.image_size, "channels": args.channels},
            "image": {"backbone": "conv4", "width": args.width},
            "objective": [{"loss": "supervised_contrastive"}],
            "sampling": {"classes_per_batch": CLASSES, "images_per_class": IMAGES},
            "augment": {"rotate": 10, "scale": 0.2, "translate": 0.1, "hflip": 0.5} if augment else {},
        }
    )
    trainer = Trainer(config, data, RunFolder(folder))
    module, trainer.optimizer = trainer.accelerator.prepare(trainer.module, trainer.optimizer)
    module.train()
    if resident:
        batch = trainer._fetch(0)
        trainer._fetch = lambda number: batch  # type: ignore[method-assign]
    upcoming: list[Future[Any]] = [pool.submit(trainer._fetch, 0)]
    number = iter(range(10**9))

    def step() -> float:
        loss, _, upcoming[0] = trainer._step(module, next(number), upcoming[0], pool)
        return loss.item()

    return step
