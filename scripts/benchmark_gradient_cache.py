"""Resident memory of contrastive training steps by gradient caching, a large batch against a small one.

Conv4 with GroupNorm beside the frozen text encoder, on random images of 32 pixels. Each batch has a process of its
own: memory is the most that it ever had resident, less what it had with model and data loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, nargs=2, default=[256, 4096], help="images, small and large")
    parser.add_argument("--chunk", type=int, default=256, help="images at a time")
    parser.add_argument("--width", type=int, default=64, help="of Conv4")
    parser.add_argument("--images", type=int, default=16, help="of a class in a batch")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    if args.one is not None:
        print(json.dumps(_measure(args)))
        return
    found = []
    for batch in args.batches:
        options = ["--chunk", args.chunk, "--images", args.images, "--steps", args.steps]
        options += ["--width", args.width, "--one", batch]
        command = [
            sys.executable,
            __file__.replace("benchmark_gradient_cache", "benchmark"),
            "gradient-cache",
        ]
        done = subprocess.run([*command, *map(str, options)], stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        idle, most, seconds = found[-1]
        above = f"{most - idle:6.0f} MB above {idle:.0f} MB idle"
        print(f"batch {batch:>6,}, {args.chunk} at a time: {above}, {seconds:.1f} s a step")
    (idle, most, _), (large_idle, large_most, _) = found
    print(f"large over small  {(large_most - large_idle) / (most - idle):.2f}x")


def _measure(args: argparse.Namespace) -> tuple[float, float, float]:
    """MB that were resident at idle and at most, and seconds a step."""
    import time

    import torch

    from vlfew.core.config import Config
    from vlfew.data.labeled_images import InMemory, LabeledImages
    from vlfew.training.run_folder import RunFolder
    from vlfew.training.trainer import Trainer
    from vlfew.workflows.assemble import use_all_cores

    use_all_cores()
    classes, shape = args.one // args.images, (args.one, 1, 32, 32)
    labels = torch.arange(classes).repeat_interleave(args.images)
    data = LabeledImages(
        name="random",
        images=InMemory(torch.randint(0, 256, shape, dtype=torch.uint8)),
        labels=labels,
        class_names=tuple(f"thing {n}" for n in range(classes)),
        names_are_text=True,
        splits={"train": torch.arange(len(labels))},
        fingerprint="random",
    )
    config = Config.model_validate(
        {
            "image": {"backbone": "conv4", "width": args.width, "norm": "group"},
            "objective": [{"loss": "alignment_softmax"}],
            "sampling": {"classes_per_batch": classes, "images_per_class": args.images},
            "augment": {"rotate": 10, "translate": 0.1},
            "training": {"mixed_precision": "no", "gradient_cache": args.chunk},
        }
    )
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        trainer = Trainer(config, data, RunFolder(Path(folder)))
        module, trainer.optimizer = trainer.accelerator.prepare(trainer.module, trainer.optimizer)
        module.train()
        upcoming = pool.submit(trainer._fetch, 0)
        upcoming.result()
        idle = _status("VmRSS")
        _forget_peak()
        start = time.perf_counter()
        for step in range(args.steps):
            loss, _, upcoming = trainer._step(module, step, upcoming, pool)
            loss.item()
        seconds = (time.perf_counter() - start) / args.steps
    return idle, _status("VmHWM"), seconds


def _status(key: str) -> float:
    """A line of Linux' account of this process, in MB."""
    line = next(n for n in Path("/proc/self/status").read_text().splitlines() if n.startswith(key))
    return int(line.split()[1]) / 1024


def _forget_peak() -> None:
    """Loading and the text encoder's first reading have a peak of their own."""
    Path("/proc/self/clear_refs").write_text("5")
