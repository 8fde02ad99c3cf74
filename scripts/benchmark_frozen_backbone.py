"""Encoding images by a frozen backbone: ONNX Runtime, as `vlfew` uses it for many images, against PyTorch.

Both take turns on the same random images, with the same threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=64, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5, help="each side runs once a round")


def run(args: argparse.Namespace) -> None:
    import torch
    from torch import Tensor
    from torch.nn.functional import cosine_similarity

    from vlfew.models.loading import load
    from vlfew.models.onnx_backbone import onnx_backbone

    model = load(args.backbone)
    pixels = torch.randint(0, 256, (args.images, *model.spec.preprocessor().shape)).float()
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        encode = onnx_backbone(model, Path(folder) / "backbone.onnx")
        exported = time.perf_counter() - started
    if encode is None:
        raise SystemExit("ONNX Runtime cannot be used here: pip install 'vlfew[export]'")

    def eager(pixels: Tensor) -> Tensor:
        return model.backbone_output(pixels).embedding

    seconds: dict[str, list[float]] = {"PyTorch": [], "ONNX Runtime": []}
    with torch.no_grad():
        cosine = cosine_similarity(eager(pixels), encode(pixels)).min()  # warms both up
        for _ in range(args.rounds):
            for name, function in (("PyTorch", eager), ("ONNX Runtime", encode)):
                started = time.perf_counter()
                function(pixels)
                seconds[name].append(time.perf_counter() - started)
    rates = {name: args.images / statistics.median(times) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:13} {rate:7.1f} images/s")
    print(f"ratio         {rates['ONNX Runtime'] / rates['PyTorch']:7.2f}")
    print(f"least cosine of the embeddings {cosine:.7f}; exported and checked in {exported:.1f} s")
