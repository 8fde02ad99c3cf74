"""Embeddings of some classes in the plane: of principal components, or the embedding itself if it has two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from vlfew.core.random import generator_at
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.report.charts import PALETTE, Axis, Series, draw_chart
from vlfew.report.images import bank_thumbnails

CLASSES, IMAGES = 12, 400
"""Most classes and images of the map, each class with an equal share."""
LEAST = 5
"""Images of a class that make a cloud; smaller classes are shown only where there are no others."""
MARKERS = ("circle", "square", "triangle", "diamond")
HOVER_SIDE = 64
"""Pixels of the image when hovering."""


def principal_components(embedding: Tensor) -> tuple[Tensor, float]:
    """The first two principal components of normalized embeddings `[P, D]`.

    Returns:
        `[P, 2]` coordinates, each axis with the sign that makes its largest loading positive, and the share of the
        variance they explain (0 when there is none).
    """
    x = normalize(embedding.double(), dim=1)
    u, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).squeeze(1).sign()
    plane = pad(u * s * sign, (0, 2))[:, :2]
    total = float(s.square().sum())
    return plane, float(s[:2].square().sum()) / total if total > 1e-12 else 0.0


def embedding_map(bank: FeatureBank, seed: int) -> dict[str, Any] | str:
    """Random classes of the split as colored points, with their images when hovering."""
    classes, positions, among = _sample(bank, seed)
    embedding = bank.features.embedding[torch.cat(positions)]
    flat = embedding.shape[1] == 2
    plane, share = (embedding.double(), 1.0) if flat else principal_components(embedding)
    if len(classes) < 2 or share == 0.0 or bool((plane == plane[0]).all()):
        return "No map: it needs two classes whose embeddings differ."
    series, groups = [], plane.split([len(own) for own in positions])
    for number, (label, own, group) in enumerate(zip(classes, positions, groups, strict=True)):
        name, (x, y) = bank.data.class_names[label], group.T.tolist()
        images = [image.src for image in bank_thumbnails(bank, own, [name] * len(own), HOVER_SIDE)]
        look: dict[str, Any] = {
            "marker": MARKERS[number % len(MARKERS)],
            "size": 9,
            "alpha": 0.8,
            "line": False,
        }
        series.append(Series(name, x, y, PALETTE[number], [""] * len(x), columns={"image": images}, **look))
    axis = Axis("first component" if not flat else "first dimension")
    chart = draw_chart("", series, axis, height=560, match_aspect=True)
    for own, group, one in zip(positions, groups, series, strict=True):
        # An example in the middle of its class, shown and hidden with it.
        (image,) = bank_thumbnails(bank, own[:1], [one.name])
        x, y = group.median(0).values.tolist()
        side: dict[str, Any] = {
            "w": 28,
            "h": 28,
            "w_units": "screen",
            "h_units": "screen",
            "anchor": "center",
        }
        chart.figure.image_url([image.src], x, y, name=one.name, **side)
    facts = {
        "images": len(embedding),
        "classes": len(classes),
        "among": among,
        "split": bank.split,
        "seed": seed,
    }
    return facts | {"chart": chart, "share": None if flat else share}


def _sample(bank: FeatureBank, seed: int) -> tuple[list[int], list[Tensor], str]:
    """Class numbers, positions of their images in the bank, and what they were sampled from."""
    rng = generator_at(seed, "report", "map")
    numbers, counts = bank.labels.unique(return_counts=True)
    clouds, among = numbers[counts >= LEAST], f"{len(numbers):,} classes"
    if 2 <= len(clouds) < len(numbers):
        numbers, among = clouds, f"{len(clouds):,} classes with {LEAST} images or more"
    chosen = numbers[torch.from_numpy(rng.permutation(len(numbers)))[:CLASSES]].sort().values.tolist()
    positions = []
    for number in chosen:
        own = (bank.labels == number).nonzero().flatten()
        positions.append(own[torch.from_numpy(rng.permutation(len(own)))[: IMAGES // len(chosen)]])
    return chosen, positions, among
