"""Identification: which enrolled class is in the image, and is it any of them?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_at_least
from vlfew.core.errors import ConfigError, DataError
from vlfew.core.features import Features
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.feature_bank import split_indices
from vlfew.evaluation.protocols.few_shot import check_method
from vlfew.evaluation.statistics import FAR_GRID as FPIR_GRID

RANKS = 20
"""Length of the cumulative match curve."""
TARGETS = (1e-1, 1e-2)
"""False-positive identification rates at which the detection rate is reported."""
CHUNK = 1024
"""Images that are scored at a time."""


def identification(
    context: EvaluationContext,
    *,
    split: str = "test",
    gallery_size: int | Literal["all"] = "all",
    shots: int = 1,
    repeats: int = 10,
    seed: int = 0,
    method: str = "default",
) -> ProtocolResult:
    """Share of probes whose class ranks first among all enrolled classes (rank-1, closed set).

    Each repeat enrolls classes of more than `shots` images, with `shots` images each; their other
    images are the probes, and all images of the split's other classes are unknown.

    Also reported: the cumulative match curve, and, open set, the detection and identification rate (DIR:
    probes ranked first with a score at or above the threshold) against the false-positive
    identification rate (FPIR: unknown images with a score at or above the threshold for any class; Grother and
    Ngan, NISTIR 8009). Every rate is the mean over repeats; so is the interval, over draws of who is
    enrolled with which image, not over new people.

    Args:
        context: the model and the data.
        split: the split whose classes are evaluated.
        gallery_size: N, number of enrolled classes; `all` leaves only classes with too few images as unknown.
        shots: K, images that enroll a class.
        repeats: number of random galleries.
        seed: of the random draws.
        method: few-shot method by name; `default` is the one the model was trained for.

    Raises:
        DataError: fewer classes with more than `shots` images than are to be enrolled, or than 2.
        ConfigError: fewer than 2 enrolled, 1 shot or 1 repeat; a transductive method.
    """
    check_method(method, "identification")
    check_at_least("repeats", repeats)
    galleries = [_draw_gallery(context.data, split, gallery_size, shots, seed, n) for n in range(repeats)]
    few_shot_method = context.model.few_shot_method(method)
    features = context.bank(split).features
    if not few_shot_method.needs_map:
        features = replace(features, map=None)
    match_curves, detection, unknown_counts = [], [], []
    for gallery in galleries:
        known, unknown = _logits(few_shot_method, features, gallery, shots)
        correct = known.gather(1, gallery.target[:, None])
        # Ties count against the correct class: a model that scores all alike identifies nobody.
        rank = (known >= correct).sum(1).numpy()
        match_curves.append([(rank <= k).mean() for k in range(1, min(RANKS, known.shape[1]) + 1)])
        best_unknown = unknown.max(1).values.numpy() if len(unknown) else np.empty(0)
        detection.append(_detection(correct[:, 0].numpy()[rank == 1], len(rank), best_unknown))
        unknown_counts.append(len(unknown))
    rank_1 = np.array([curve[0] for curve in match_curves], dtype=np.float64)
    details: dict[str, Any] = {
        "ways": len(galleries[0].support) // shots,
        "shots": shots,
        "probes": int(np.mean([len(g.probes) for g in galleries])),
        "unknown": int(np.mean(unknown_counts)),
        "method": method,
        "interval": "over draws",
        "cmc": np.mean(match_curves, axis=0).tolist(),
    }
    if min(unknown_counts):
        curve = np.mean(detection, axis=0)
        details["dir"] = {"fpir": FPIR_GRID.tolist(), "dir": curve.tolist()}
        for target in TARGETS:
            if min(unknown_counts) * target >= 1:
                details[f"dir_at_fpir_{target:g}"] = float(curve[np.argmin(abs(FPIR_GRID - target))])
    return ProtocolResult.over_episodes(rank_1, details)


@dataclass(frozen=True)
class GalleryDraw:
    """One random gallery, as positions in the split's bank.

    Attributes:
        support: `[N * K]`, K images of each of the N enrolled classes, class by class.
        probes: `[P]` further images of those classes.
        target: `[P]` enrolled class of each probe.
        unknown: `[U]` images of classes that are not enrolled.
    """

    support: Tensor
    probes: Tensor
    target: Tensor
    unknown: Tensor


def _draw_gallery(
    data: LabeledImages, split: str, size: int | Literal["all"], shots: int, seed: int, repeat: int
) -> GalleryDraw:
    if shots < 1 or (size != "all" and size < 2):
        raise ConfigError(
            f"identification needs at least 2 enrolled classes and 1 shot, not {size} and {shots}"
        )
    labels = data.labels[split_indices(data, split)].numpy()
    classes, counts = np.unique(labels, return_counts=True)
    usable = classes[counts > shots]
    wanted = len(usable) if size == "all" else size
    if wanted > len(usable) or len(usable) < 2:
        raise DataError(
            f"{data.name}: split {split!r} has {len(usable)} classes of more than {shots} image(s), "
            f"{max(2, wanted)} are to be enrolled; lower gallery_size or shots"
        )
    rng = generator_at(seed, "gallery", repeat)
    enrolled = np.sort(rng.choice(usable, wanted, replace=False))
    support, probes, target = [], [], []
    for n, label in enumerate(enrolled):
        images = rng.permutation(np.flatnonzero(labels == label))
        support.append(images[:shots])
        probes.append(images[shots:])
        target.append(np.full(len(images) - shots, n))
    unknown = np.flatnonzero(~np.isin(labels, enrolled))
    parts = (np.concatenate(support), np.concatenate(probes), np.concatenate(target), unknown)
    return GalleryDraw(*(torch.from_numpy(part) for part in parts))


def _logits(
    method: FewShotMethod, features: Features, gallery: GalleryDraw, shots: int
) -> tuple[Tensor, Tensor]:
    """Logits `[P, N]` of the probes and `[U, N]` of the unknown images, float64."""
    n = len(gallery.support) // shots
    class_id = torch.arange(n).repeat_interleave(shots)
    method = method.double().fit(SupportSet(_select(features, gallery.support), class_id, n))

    def logits_of(positions: Tensor) -> Tensor:
        parts = [method.logits(_select(features, part)) for part in positions.split(CHUNK) if len(part)]
        return torch.cat(parts) if parts else torch.empty(0, n, dtype=torch.float64)

    return logits_of(gallery.probes), logits_of(gallery.unknown)


def _select(features: Features, positions: Tensor) -> Features:
    return features.apply(lambda t: t[positions].double())


def _detection(first: np.ndarray, probes: int, unknown: np.ndarray) -> np.ndarray:
    """DIR at `FPIR_GRID`: at the lowest threshold that at most floor(FPIR * U) unknown images reach.

    Args:
        first: scores of the probes that are ranked first.
        probes: number of all probes.
        unknown: `[U]` best score of each unknown image.
    """
    if not len(unknown):
        return np.zeros(len(FPIR_GRID))
    ranked = np.append(np.sort(unknown)[::-1], -np.inf)
    allowed = np.floor(FPIR_GRID * len(unknown) + 1e-9).astype(int)
    # Above the first unknown image that must not be accepted.
    return (first[:, None] > ranked[allowed][None, :]).sum(0) / probes
