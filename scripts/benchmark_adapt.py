"""All methods of `vlfew adapt` that need no training of the model, on 10,000 cached features of 512 numbers: 100
classes, 1, 2, 4, 8 and 16 shots, 3 seeds. Options and temperature are chosen too, by 100 other classes
(`--choose val`), by further pictures or not at all.
"""

from __future__ import annotations

import argparse
import time

CLASSES, PICTURES, DIM = 100, 100, 512
OTHERS = 40
"""Pictures of each of the classes to choose by: as many as are looked at, and a few more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--choose", choices=("val", "pictures", "fixed"), default="val")
    parser.add_argument("--methods", default="all", help="names with commas between")
    parser.add_argument("--threads", type=int, default=2)


def run(args: argparse.Namespace) -> None:
    import torch
    from torch import Tensor

    from vlfew.data.images import InMemory, LabelledImages
    from vlfew.evaluation.adaptation import adapt
    from vlfew.evaluation.bank import FeatureBank
    from vlfew.evaluation.subject import Subject
    from vlfew.features import Features
    from vlfew.scorers.base import Scorer

    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat(
        [
            torch.arange(CLASSES).repeat_interleave(PICTURES),
            torch.arange(CLASSES, 2 * CLASSES).repeat_interleave(OTHERS),
        ]
    )
    centres = torch.randn(2 * CLASSES, DIM, generator=generator)
    embedding = 0.25 * centres[labels] + torch.randn(len(labels), DIM, generator=generator)
    words = centres + 2 * torch.randn(2 * CLASSES, DIM, generator=generator)
    test = CLASSES * PICTURES
    data = LabelledImages(
        name="made up",
        images=InMemory(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)),
        labels=labels,
        class_names=tuple(f"thing {c}" for c in range(2 * CLASSES)),
        names_are_words=True,
        splits={"test": torch.arange(test), "val": torch.arange(test, len(labels))},
        fingerprint="made up",
    )

    class Made:
        has_text = True
        fingerprint = None

        def encode_images(self, images: Tensor) -> Features:
            raise NotImplementedError("its features are cached")

        def encode_texts(self, texts: list[str]) -> Tensor:
            return words[[int(text.split()[1]) for text in texts]]

        def scorer(self, name: str) -> Scorer:
            raise NotImplementedError("methods come from the registry")

    def cached(model: Made, data: LabelledImages, split: str) -> FeatureBank:
        index = data.indices(split)
        return FeatureBank(Features(embedding[index]), labels[index], index, data, split)

    begin = time.perf_counter()
    found = adapt(Subject(Made(), data, encode=cached), methods=args.methods.split(","), choose=args.choose)
    took = time.perf_counter() - begin
    shots, seeds = found.shots, len(found.seeds)
    print(
        f"{test:,} features of {DIM}, {CLASSES} classes, {len(shots)} numbers of shots, {seeds} seeds, "
        f"{args.threads} threads"
    )
    print(
        f"{'method':<20} {'choosing s':>10} {'fits s':>7}   accuracy at {shots[0]} and {shots[-1]} shots, %"
    )
    for method in found.methods:
        cells = [found.cell(method, k) for k in shots]
        choosing, fits = sum(c.choosing_seconds for c in cells), seeds * sum(c.seconds for c in cells)
        first, last = 100 * cells[0].accuracy.mean, 100 * cells[-1].accuracy.mean
        print(f"{method:<20} {choosing:>10.1f} {fits:>7.1f}   {first:.1f} {last:.1f}")
    print(f"{len(found.methods)} methods, {found.chosen_by}: {took:.1f} s")
