"""All methods of `vlfew adapt` that need no training of the model, on 10,000 cached features of 512 numbers: 100
classes, 1, 2, 4, 8 and 16 shots, 3 repeats. Options and temperature are tuned too, on 100 other classes
(`--tune-on val-classes`), on held-out images or not at all.
"""

from __future__ import annotations

import argparse
import time
from types import SimpleNamespace
from typing import Any

CLASSES, IMAGES, DIM = 100, 100, 512
OTHERS = 40
"""Images of each class that options are tuned on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tune-on", choices=("val-classes", "held-out-images", "none"), default="val-classes"
    )
    parser.add_argument("--methods", default="all", help="names, separated by commas")
    parser.add_argument("--threads", type=int, default=2)


def run(args: argparse.Namespace) -> None:
    import torch
    from torch import Tensor

    from vlfew.classifiers.base import FewShotMethod
    from vlfew.core.features import Features
    from vlfew.data.labeled_images import InMemory, LabeledImages
    from vlfew.evaluation.adaptation.compare import compare_methods
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.feature_bank import FeatureBank
    from vlfew.similarities.base import Similarity

    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat(
        [
            torch.arange(CLASSES).repeat_interleave(IMAGES),
            torch.arange(CLASSES, 2 * CLASSES).repeat_interleave(OTHERS),
        ]
    )
    centers = torch.randn(2 * CLASSES, DIM, generator=generator)
    embedding = 0.25 * centers[labels] + torch.randn(len(labels), DIM, generator=generator)
    text_embedding = centers + 2 * torch.randn(2 * CLASSES, DIM, generator=generator)
    test = CLASSES * IMAGES
    data = LabeledImages(
        name="synthetic",
        images=InMemory(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)),
        labels=labels,
        class_names=tuple(f"thing {c}" for c in range(2 * CLASSES)),
        class_texts=tuple((f"thing {c}",) for c in range(2 * CLASSES)),
        splits={"test": torch.arange(test), "val": torch.arange(test, len(labels))},
        fingerprint="synthetic",
    )

    class SyntheticModel:
        has_text = True
        fingerprint = None

        def image_features(self, pixels: Tensor) -> Features:
            raise NotImplementedError("its features are cached")

        def encode_text(self, texts: list[str]) -> Tensor:
            return text_embedding[[int(text.split()[1]) for text in texts]]

        def require_text_encoder(self) -> Any:
            return SimpleNamespace(token_ids=lambda texts: [(int(text.split()[1]),) for text in texts])

        def few_shot_method(self, name: str = "default") -> FewShotMethod:
            raise NotImplementedError("methods come from the registry")

        def similarity_by_name(self, name: str = "default") -> Similarity:
            raise NotImplementedError("methods come from the registry")

    def cached(model: SyntheticModel, data: LabeledImages, split: str) -> FeatureBank:
        index = data.indices(split)
        return FeatureBank(Features(embedding[index]), labels[index], index, data, split)

    begin = time.perf_counter()
    result = compare_methods(
        EvaluationContext(SyntheticModel(), data, encode=cached),
        methods=args.methods.split(","),
        tune_on=args.tune_on,
    )
    took = time.perf_counter() - begin
    shots, repeats = result.shots, result.repeats
    print(
        f"{test:,} features of {DIM}, {CLASSES} classes, {len(shots)} shot counts, {repeats} repeats, "
        f"{args.threads} threads"
    )
    print(f"{'method':<20} {'tuning s':>10} {'fits s':>7}   accuracy at {shots[0]} and {shots[-1]} shots, %")
    for method in result.methods:
        cells = [result.cell(method, k) for k in shots]
        tuning, fits = sum(c.tuning_seconds for c in cells), repeats * sum(c.seconds for c in cells)
        first, last = 100 * cells[0].accuracy.mean, 100 * cells[-1].accuracy.mean
        print(f"{method:<20} {tuning:>10.1f} {fits:>7.1f}   {first:.1f} {last:.1f}")
    print(f"{len(result.methods)} methods, {result.tuning}: {took:.1f} s")
