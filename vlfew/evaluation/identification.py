"""Identification: who, of everyone enrolled, is in the picture? And is it anyone at all?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.counting import generator_at
from vlfew.data.images import LabelledImages
from vlfew.errors import ConfigError, DataError
from vlfew.evaluation.bank import split_pictures
from vlfew.evaluation.few_shot import check_scorer
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.roc import FAR_GRID as FPIR_GRID
from vlfew.evaluation.subject import Outcome, Subject
from vlfew.features import Features
from vlfew.scorers.base import Scorer
from vlfew.scorers.support import Support

RANKS = 20
"""Ranks of the cumulative match curve that are kept."""
TARGETS = (1e-1, 1e-2)
"""False-positive identification rates at which the detection rate is told."""
CHUNK = 1024


@dataclass(frozen=True)
class Gallery:
    """One way to enrol, as places in the split's bank.

    Attributes:
        support: `[N * K]`, K pictures of each of the N enrolled classes, class by class.
        probes: `[P]` further pictures of those classes.
        truth: `[P]` which of the N is in each probe.
        unknown: `[U]` pictures of classes that are not enrolled.
    """

    support: Tensor
    probes: Tensor
    truth: Tensor
    unknown: Tensor


def identification(
    subject: Subject,
    *,
    split: str = "test",
    enrolled: int | Literal["all"] = "all",
    shots: int = 1,
    draws: int = 10,
    seed: int = 0,
    scorer: str = "default",
) -> Outcome:
    """Share of probes whose class comes first among everyone enrolled (rank-1, closed set).

    Each draw enrols classes of more than `shots` pictures, all or so many, with `shots` pictures each;
    their other pictures are the probes, and all pictures of the split's other classes are unknown.

    Also told: the cumulative match curve, and, open set, the detection and identification rate (DIR:
    probes ranked first with a score at the threshold or above) against the false-positive
    identification rate (FPIR: unknown pictures that reach the threshold for anyone; Grother and
    Ngan, NISTIR 8009). Every rate is the mean over draws; so is the interval, over draws of who is
    enrolled with which picture, not over new people.

    Args:
        subject: the model and the data.
        split: whose classes.
        enrolled: N, the size of the gallery; `all` leaves as unknown only classes with too few pictures.
        shots: K, pictures that enrol a class.
        draws: of who is enrolled by which pictures.
        seed: of the draws.
        scorer: by name; `default` is what the model was trained for.

    Raises:
        DataError: fewer classes with more than `shots` pictures than are to be enrolled, or than 2.
        ConfigError: fewer than 2 enrolled, 1 shot or 1 draw; a transductive scorer.
    """
    check_scorer(scorer, "identification")
    _require_draws(draws)
    galleries = [_enrol(subject.data, split, enrolled, shots, seed, n) for n in range(draws)]
    similarity = subject.model.scorer(scorer)
    features = subject.bank(split).features
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
        "scorer": scorer,
        "interval": "over draws",
        "cmc": np.mean(ranks, axis=0).tolist(),
    }
    if min(false):
        curve = np.mean(hits, axis=0)
        details["dir"] = {"fpir": FPIR_GRID.tolist(), "dir": curve.tolist()}
        for target in TARGETS:
            if min(false) * target >= 1:
                details[f"dir_at_fpir_{target:g}"] = float(curve[np.argmin(abs(FPIR_GRID - target))])
    return Outcome(accuracy, ci95, draws, details, np.array([r[0] for r in ranks], dtype=np.float64))


def check_identification(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `identification` would, from the labels alone; makes one draw."""
    o = options
    check_scorer(o["scorer"], "identification")
    _require_draws(o["draws"])
    _enrol(data, o["split"], o["enrolled"], o["shots"], o["seed"], 0)


def _require_draws(draws: int) -> None:
    if draws < 1:
        raise ConfigError(f"identification needs at least 1 draw, not {draws}")


def _enrol(
    data: LabelledImages, split: str, enrolled: int | Literal["all"], shots: int, seed: int, draw: int
) -> Gallery:
    if shots < 1 or (enrolled != "all" and enrolled < 2):
        raise ConfigError(
            f"identification needs at least 2 enrolled classes and 1 shot, not {enrolled} and {shots}"
        )
    labels = data.labels[split_pictures(data, split)].numpy()
    classes, counts = np.unique(labels, return_counts=True)
    able = classes[counts > shots]
    wanted = len(able) if enrolled == "all" else enrolled
    if wanted > len(able) or len(able) < 2:
        raise DataError(
            f"{data.name}: split {split!r} has {len(able)} classes of more than {shots} picture(s), "
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


def _scores(scorer: Scorer, features: Features, gallery: Gallery, shots: int) -> tuple[Tensor, Tensor]:
    """Scores `[P, N]` of the probes and `[U, N]` of the unknown, float64."""
    n = len(gallery.support) // shots
    class_id = torch.arange(n).repeat_interleave(shots)
    scorer = scorer.double().fit(Support(_at(features, gallery.support), class_id, n))

    def score(places: Tensor) -> Tensor:
        parts = [scorer.score(_at(features, part)) for part in places.split(CHUNK) if len(part)]
        return torch.cat(parts) if parts else torch.empty(0, n, dtype=torch.float64)

    return score(gallery.probes), score(gallery.unknown)


def _at(features: Features, places: Tensor) -> Features:
    return features.apply(lambda t: t[places].double())


def _detection(first: np.ndarray, probes: int, strangers: np.ndarray) -> np.ndarray:
    """DIR at `FPIR_GRID`: the lowest threshold that lets no more than floor(FPIR * U) strangers pass.

    Args:
        first: scores of the probes that are ranked first.
        probes: how many there are.
        strangers: `[U]` best score of each unknown picture.
    """
    if not len(strangers):
        return np.zeros(len(FPIR_GRID))
    ranked = np.append(np.sort(strangers)[::-1], -np.inf)
    allowed = np.floor(FPIR_GRID * len(strangers) + 1e-9).astype(int)
    # Above the first stranger that must not pass.
    return (first[:, None] > ranked[allowed][None, :]).sum(0) / probes
