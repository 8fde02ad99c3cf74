"""Resident memory of contrastive training steps by gradient caching, a large batch against a small one.

Conv4 with GroupNorm and the frozen text encoder, on random images of 32 pixels. Each batch size has a process of its
own; memory is its peak resident size minus that with model and data loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
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
    measured = []
    for batch in args.batches:
        options = ["--chunk", args.chunk, "--images", args.images, "--steps", args.steps]
        options += ["--width", args.width, "--one", batch]
        command = [
            sys.executable,
            __file__.replace("benchmark_gradient_cache", "benchmark"),
            "gradient-cache",
        ]
        done = subprocess.run([*command, *map(str, options)], stdout=subprocess.PIPE, text=True, check=True)
        measured.append(json.loads(done.stdout.splitlines()[-1]))
        idle, peak, seconds = measured[-1]
        above = f"{peak - idle:6.0f} MB above {idle:.0f} MB idle"
        print(f"batch {batch:>6,}, {args.chunk} at a time: {above}, {seconds:.1f} s a step")
    (idle, peak, _), (large_idle, large_peak, _) = measured
    print(f"large over small  {(large_peak - large_idle) / (peak - idle):.2f}x")


def _measure(args: argparse.Namespace) -> tuple[float, float, float]:
    """Resident MB before training and at the peak, and seconds a step."""
    import time

    import torch

    from vlfew.core.config import Config
    from vlfew.data.labeled_images import InMemory, LabeledImages
    from vlfew.training.hardware import use_all_cores
    from vlfew.training.run_folder import RunFolder
    from vlfew.workflows.assemble import assemble
    from vlfew.workflows.train import make_trainer

    use_all_cores()
    classes, shape = args.one // args.images, (args.one, 1, 32, 32)
    labels = torch.arange(classes).repeat_interleave(args.images)
    data = LabeledImages(
        name="random",
        images=InMemory(torch.randint(0, 256, shape, dtype=torch.uint8)),
        labels=labels,
        class_names=tuple(f"thing {n}" for n in range(classes)),
        class_texts=tuple((f"thing {n}",) for n in range(classes)),
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
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        trainer = make_trainer(config, assemble(config, run, data), run)
        trainer.module.train()
        batches = trainer.batches()
        idle = _status("VmRSS")
        _reset_peak()
        start = time.perf_counter()
        for _ in range(args.steps):
            trainer.optimizer_step(batches)
            trainer.loss.item()
        seconds = (time.perf_counter() - start) / args.steps
    return idle, _status("VmHWM"), seconds


def _status(key: str) -> float:
    """A line of Linux' statistics of this process, in MB."""
    line = next(n for n in Path("/proc/self/status").read_text().splitlines() if n.startswith(key))
    return int(line.split()[1]) / 1024


def _reset_peak() -> None:
    """Loading, and encoding texts at the start, have a peak of their own."""
    Path("/proc/self/clear_refs").write_text("5")
