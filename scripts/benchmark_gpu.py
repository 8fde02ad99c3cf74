"""Training on a GPU: batches decoded on demand and batches from GPU memory against one resident batch and against the
network alone, with augmentation, and as a share of the measured bf16 peak; the quickstart as a whole; 10,000 episodes.

The network alone does encoding, loss, gradients and the optimizer's step on pixels that are augmented once.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from vlfew.data.labeled_images import ImageStore
    from vlfew.training.batches import TrainingBatch
    from vlfew.training.trainer import Trainer


class Case(NamedTuple):
    """A network and its batches."""

    image: dict[str, Any]
    image_size: int
    classes: int
    images: int


CASES = {
    "conv4, 84 px": Case({"backbone": "conv4", "width": 64}, 84, 64, 8),
    "resnet12, 84 px": Case({"backbone": "resnet12"}, 84, 64, 8),
    "ViT-S/16, 224 px": Case({"backbone": "timm:vit_small_patch16_224"}, 224, 32, 8),
}
QUICK = {"conv4, 16 px": Case({"backbone": "conv4", "width": 4}, 16, 4, 2)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs, not how fast")
    parser.add_argument("--steps", type=int, default=10, help="steps of each side in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=("training", "quickstart", "episodes"))


def run(args: argparse.Namespace) -> None:
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "no GPU: torch.cuda.is_available() is false; --device cpu --quick tries the script out"
        )
    print(torch.cuda.get_device_name() if args.device == "cuda" else "CPU", f"torch {torch.__version__}")
    parts = {"training": _training, "quickstart": _quickstart, "episodes": _episodes}
    for name in args.only or parts:
        start = time.perf_counter()
        parts[name](args)
        print(f"({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)


def _training(args: argparse.Namespace) -> None:
    import torch
    from benchmark_training import configuration, in_turns, random_images, stepper, trainer_on

    from vlfew.core.errors import VlfewError

    device = torch.device(args.device)
    peak = _peak_flops(device, 512 if args.quick else 8192)
    print(f"bf16 matrix products: {peak / 1e12:.1f} TFLOP/s")
    steps, rounds = (1, 1) if args.quick else (args.steps, args.rounds)
    for name, case in (QUICK if args.quick else CASES).items():
        values = configuration(case.image, case.image_size, case.classes, case.images)
        values["training"]["mixed_precision"] = "bf16"
        count = case.classes * (4 if args.quick else 40)
        with tempfile.TemporaryDirectory() as folder:
            try:
                decoded = trainer_on(_jpegs(count, case.image_size), case.classes, values, Path(folder))
                stored = trainer_on(
                    random_images(count, 3, case.image_size), case.classes, values, Path(folder)
                )
            except VlfewError as error:
                print(f"{name}: {error}")
                continue
            alone = itertools.repeat(_augmented_once(next(stored.batches())))
            flops = _flops(stored, alone)
            sides: dict[str, Callable[[], object]] = {
                "network alone": partial(stored.optimizer_step, alone),
                "one resident batch": stepper(stored, resident=True),
                "batches from memory": stepper(stored, resident=False),
                "batches decoded on demand": stepper(decoded, resident=False),
            }
            times = {side: statistics.median(t) for side, t in in_turns(sides, steps, rounds).items()}
        batch = case.classes * case.images
        print(f"{name}, batch {batch}, bf16:")
        for side, seconds in times.items():
            print(
                f"  {side:<26} {1000 * seconds:8.1f} ms a step, {batch / seconds:8.0f} images/s, "
                f"{times['network alone'] / seconds:.2f} of the network alone, {flops / seconds / peak:.0%} of the peak"
            )


def _peak_flops(device: torch.device, size: int) -> float:
    """Floating-point operations a second of a bf16 matrix product."""
    import torch

    a = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    times = []
    for _ in range(5):
        _synchronize(device)
        start = time.perf_counter()
        for _ in range(3):
            a @ a
        _synchronize(device)
        times.append((time.perf_counter() - start) / 3)
    return 2 * size**3 / min(times)


def _augmented_once(batch: TrainingBatch) -> TrainingBatch:
    pixels = batch.pixels()
    return replace(batch, augment=lambda *_: pixels)  # type: ignore[arg-type]


def _flops(trainer: Trainer, batches: Iterator[TrainingBatch]) -> float:
    """Floating-point operations of forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        trainer.optimizer_step(batches)
    return float(counter.get_total_flops())


def _synchronize(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _jpegs(count: int, size: int) -> ImageStore:
    """Smooth random JPEG images that are decoded on demand."""
    import numpy as np
    from PIL import Image

    from vlfew.data.image_stores import DecodedOnDemand
    from vlfew.data.preprocess import ImagePreprocessor

    rng, files = np.random.default_rng(0), []
    for _ in range(count):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((size * 3 // 2, size * 3 // 2), Image.Resampling.BICUBIC).save(
            file, "JPEG"
        )
        files.append(file.getvalue())
    # No cache: each image is decoded every time.
    return DecodedOnDemand(files, ImagePreprocessor(size, 3), cache_mb=0)


def _quickstart(args: argparse.Namespace) -> None:
    from vlfew.workflows.train import train

    try:
        import vlfew.report  # noqa: F401
    except ImportError as error:  # its libraries are too large to be carried along
        print(f"without the report page: {error}")
        report: Any = ModuleType("vlfew.report")
        report.__path__ = [str(Path(__file__).parents[1] / "vlfew" / "report")]
        report.write_report = lambda run, *_, **__: run.report
        sys.modules["vlfew.report"] = report
    config = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
    quick = [
        "optim.steps=2",
        "optim.warmup_steps=1",
        "evaluate=[{protocol: zero-shot, ways: 20, episodes: 20}]",
    ]
    with tempfile.TemporaryDirectory() as runs:
        start = time.perf_counter()
        train(config, quick if args.quick else [], Path(runs))
        print(f"quickstart: {time.perf_counter() - start:.1f} s")


def _episodes(args: argparse.Namespace) -> None:
    import torch

    from vlfew.classifiers import CLASSIFIERS
    from vlfew.core.features import Features, FeatureSpec
    from vlfew.evaluation.accuracy import episode_accuracies
    from vlfew.evaluation.episodes import sample_episodes
    from vlfew.evaluation.protocols.few_shot import episode_logits

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20).repeat_interleave(600)
    features = Features(torch.randn(len(labels), 512, generator=generator))
    count = 100 if args.quick else 10_000
    start = time.perf_counter()
    episodes = sample_episodes(labels, 5, 1, 15, count, 0)
    drawn = time.perf_counter() - start
    method = CLASSIFIERS.get("prototypes")(FeatureSpec(512))
    episode_accuracies(features, episodes, episode_logits(method, 5, 1))
    total = time.perf_counter() - start
    print(
        f"{count:,} episodes, 5-way 1-shot, 15 queries, 512 features: {total:.2f} s, {drawn:.2f} s of them sampling"
    )
