"""Identification: who, of everyone enrolled, is in the image? And is it anyone at all?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import Support
from vlfew.core.errors import ConfigError, DataError
from vlfew.core.features import Features
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.feature_bank import split_images
from vlfew.evaluation.protocols.few_shot import check_scorer
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.roc import FAR_GRID as FPIR_GRID

RANKS = 20
"""Ranks of the cumulative match curve that are kept."""
TARGETS = (1e-1, 1e-2)
"""False-positive identification rates at which the detection rate is told."""
CHUNK = 1024


@dataclass(frozen=True)
class Gallery:
    """One way to enrol, as places in the split's bank.

    Attributes:
        support: `[N * K]`, K images of each of the N enrolled classes, class by class.
        probes: `[P]` further images of those classes.
        truth: `[P]` which of the N is in each probe.
        unknown: `[U]` images of classes that are not enrolled.
    """

    support: Tensor
    probes: Tensor
    truth: Tensor
    unknown: Tensor


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
    """Share of probes whose class comes first among everyone enrolled (rank-1, closed set).

    Each draw enrols classes of more than `shots` images, all or so many, with `shots` images each;
    their other images are the probes, and all images of the split's other classes are unknown.

    Also told: the cumulative match curve, and, open set, the detection and identification rate (DIR:
    probes ranked first with a score at the threshold or above) against the false-positive
    identification rate (FPIR: unknown images that reach the threshold for anyone; Grother and
    Ngan, NISTIR 8009). Every rate is the mean over draws; so is the interval, over draws of who is
    enrolled with which image, not over new people.

    Args:
        context: the model and the data.
        split: whose classes.
        gallery_size: N, the size of the gallery; `all` leaves as unknown only classes with too few images.
        shots: K, images that enrol a class.
        repeats: of who is enrolled by which images.
        seed: of the draws.
        method: by name; `default` is what the model was trained for.

    Raises:
        DataError: fewer classes with more than `shots` images than are to be enrolled, or than 2.
        ConfigError: fewer than 2 enrolled, 1 shot or 1 draw; a transductive scorer.
    """
    check_scorer(method, "identification")
    _check_draws(repeats)
    galleries = [_enrol(context.data, split, gallery_size, shots, seed, n) for n in range(repeats)]
    similarity = context.model.method(method)
    features = context.bank(split).features
    if not similarity.needs_map:
        features = replace(features, map=None)
    ranks, hits, false = [], [], []
    for gallery in galleries:
        known, unknown = _scores(similarity, features, gallery, shots)
        right = known.gather(1, gallery.truth[:, None])
        # Ties count against the right class: a model that scores all alike knows nobody.
        rank = (known >= right).sum(1).numpy()
        n = known.shape[1]
        ranks.append([(rank <= k).mean() for k in range(1, min(RANKS, n) + 1)])
        best = right[:, 0].numpy()
        strangers = unknown.max(1).values.numpy() if len(unknown) else np.empty(0)
        hits.append(_detection(best[rank == 1], len(best), strangers))
        false.append(len(strangers))
    accuracy, ci95 = mean_ci95([float(r[0]) for r in ranks])
    details: dict[str, Any] = {
        "ways": len(galleries[0].support) // shots,
        "shots": shots,
        "probes": int(np.mean([len(g.probes) for g in galleries])),
        "unknown": int(np.mean(false)),
        "method": method,
        "interval": "over draws",
        "cmc": np.mean(ranks, axis=0).tolist(),
    }
    if min(false):
        curve = np.mean(hits, axis=0)
        details["dir"] = {"fpir": FPIR_GRID.tolist(), "dir": curve.tolist()}
        for target in TARGETS:
            if min(false) * target >= 1:
                details[f"dir_at_fpir_{target:g}"] = float(curve[np.argmin(abs(FPIR_GRID - target))])
    return ProtocolResult(accuracy, ci95, repeats, details, np.array([r[0] for r in ranks], dtype=np.float64))


def check_identification(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `identification` would, from the labels alone; makes one draw."""
    o = options
    check_scorer(o["method"], "identification")
    _check_draws(o["repeats"])
    _enrol(data, o["split"], o["gallery_size"], o["shots"], o["seed"], 0)


def _check_draws(repeats: int) -> None:
    if repeats < 1:
        raise ConfigError(f"identification needs at least 1 draw, not {repeats}")


def _enrol(
    data: LabeledImages, split: str, gallery_size: int | Literal["all"], shots: int, seed: int, draw: int
) -> Gallery:
    if shots < 1 or (gallery_size != "all" and gallery_size < 2):
        raise ConfigError(
            f"identification needs at least 2 enrolled classes and 1 shot, not {gallery_size} and {shots}"
        )
    labels = data.labels[split_images(data, split)].numpy()
    classes, counts = np.unique(labels, return_counts=True)
    able = classes[counts > shots]
    wanted = len(able) if gallery_size == "all" else gallery_size
    if wanted > len(able) or len(able) < 2:
        raise DataError(
            f"{data.name}: split {split!r} has {len(able)} classes of more than {shots} image(s), "
            f"{max(2, wanted)} are to be enrolled; enrol fewer, or lower shots"
        )
    rng = generator_at(seed, "gallery", draw)
    chosen = np.sort(rng.choice(able, wanted, replace=False))
    support, probes, truth = [], [], []
    for n, label in enumerate(chosen):
        own = rng.permutation(np.flatnonzero(labels == label))
        support.append(own[:shots])
        probes.append(own[shots:])
        truth.append(np.full(len(own) - shots, n))
    unknown = np.flatnonzero(~np.isin(labels, chosen))
    parts = (np.concatenate(support), np.concatenate(probes), np.concatenate(truth), unknown)
    return Gallery(*(torch.from_numpy(part) for part in parts))


def _scores(method: FewShotMethod, features: Features, gallery: Gallery, shots: int) -> tuple[Tensor, Tensor]:
    """Scores `[P, N]` of the probes and `[U, N]` of the unknown, float64."""
    n = len(gallery.support) // shots
    class_id = torch.arange(n).repeat_interleave(shots)
    method = method.double().fit(Support(_at(features, gallery.support), class_id, n))

    def score(places: Tensor) -> Tensor:
        parts = [method.score(_at(features, part)) for part in places.split(CHUNK) if len(part)]
        return torch.cat(parts) if parts else torch.empty(0, n, dtype=torch.float64)

    return score(gallery.probes), score(gallery.unknown)


def _at(features: Features, places: Tensor) -> Features:
    return features.apply(lambda t: t[places].double())


def _detection(first: np.ndarray, probes: int, strangers: np.ndarray) -> np.ndarray:
    """DIR at `FPIR_GRID`: the lowest threshold that lets no more than floor(FPIR * U) strangers pass.

    Args:
        first: scores of the probes that are ranked first.
        probes: how many there are.
        strangers: `[U]` best score of each unknown image.
    """
    if not len(strangers):
        return np.zeros(len(FPIR_GRID))
    ranked = np.append(np.sort(strangers)[::-1], -np.inf)
    allowed = np.floor(FPIR_GRID * len(strangers) + 1e-9).astype(int)
    # Above the first stranger that must not pass.
    return (first[:, None] > ranked[allowed][None, :]).sum(0) / probes
