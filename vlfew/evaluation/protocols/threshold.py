"""Threshold: does the error rate that a threshold was set for hold on other people?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.core.checks import check_at_least
from vlfew.core.errors import ConfigError, DataError
from vlfew.core.progress import Progress
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.enrolled_items import trials_from_embeddings
from vlfew.evaluation.feature_bank import split_indices
from vlfew.evaluation.identity_bootstrap import IdentityBootstrap, Interval
from vlfew.evaluation.impostor_rates import far_curve, fpir_curve, measured_far, measured_fpir
from vlfew.evaluation.score_normalization import TOP_K, Cohort
from vlfew.evaluation.statistics import mean_ci95
from vlfew.evaluation.templates import Combine
from vlfew.evaluation.thresholds import check_support
from vlfew.evaluation.trials import Trials

FAR = 0.01
"""False-accept rate that a threshold is set for, by default."""
COHORT = 1000
"""Identities that scores are normalized against, by default."""


def threshold(
    context: EvaluationContext,
    *,
    split: str = "test",
    far: float | None = None,
    fpir: float | None = None,
    gallery_size: int = 100,
    repeats: int = 20,
    max_images: int = 10,
    combine: Combine = "mean",
    score_normalization: bool = False,
    cohort_size: int = COHORT,
    top_k: int = TOP_K,
    resamples: int = 400,
    seed: int = 0,
) -> ProtocolResult:
    """Share of genuine probes accepted on one half of the identities by the threshold set on the other half.

    Each repeat halves the identities of the split at random. In either half those with several images are
    enrolled, every image of theirs in turn is a probe (and left out of its own template), and the images of
    the others are probes of strangers. A threshold is set on the first half for a FAR, or for the FPIR of a
    gallery of N, and the rate that it gives is measured on the second. Before that, the first half predicts
    it: the 95% prediction interval is by a bootstrap over identities, of the threshold and of the
    measurement. The result has the mean measured rate, the number of repeats in which it lies inside its
    interval, and the false-reject rate.

    The interval of the accuracy is over repeats, which share the split's people; it says nothing about new
    people.

    Args:
        context: the model and the data.
        split: the split whose identities are halved.
        far: false-accept rate to set a threshold for; 0.01 where neither rate is given.
        fpir: false-positive identification rate to set another threshold for.
        gallery_size: N, number of enrolled identities that the FPIR is for.
        repeats: number of random halvings.
        max_images: images per identity at most, so that no one person outweighs many.
        combine: how several images of an identity are scored: by their `mean`, or by the most similar (`max`).
        score_normalization: also measure with AS-norm; the accuracy is then with it. A cohort is left out of
            both halves, for both figures.
        cohort_size: number of identities, one image each, that scores are normalized against; those with one
            image first.
        top_k: most similar members of the cohort that count.
        resamples: of the bootstrap behind the prediction interval.
        seed: of the random draws.

    Raises:
        DataError: too few identities or images for the rates.
        ConfigError: a rate that is not between 0 and 1, or a count below 1.
    """
    for name, count in (("repeats", repeats), ("gallery_size", gallery_size), ("resamples", resamples)):
        check_at_least(name, count)
    check_at_least("max_images", max_images, 2)
    if far is None and fpir is None:
        far = FAR
    targets = [Target("far", far, None)] if far is not None else []
    targets += [Target("fpir", fpir, gallery_size)] if fpir is not None else []
    cohort = cohort_size if score_normalization else 0
    draws = [_halve(context.data, split, max_images, cohort, seed, repeat) for repeat in range(repeats)]
    for half in (half for draw in draws for half in draw.halves):
        _check(context.data, split, half, targets)
    if score_normalization and not 2 <= top_k <= cohort_size:
        raise ConfigError(f"top_k is {top_k}; it must be from 2 to cohort_size, {cohort_size}")
    bank = context.bank(split)
    embeddings, labels = bank.features.embedding, bank.labels
    measured: dict[str, list[Measured]] = {}
    with Progress("thresholds", repeats, "repeats") as bar:
        for repeat, draw in enumerate(draws):
            for normalized in (False, True)[: 1 + score_normalization]:
                against = Cohort(embeddings[draw.cohort], top_k) if normalized else None
                own, other = (half.trials(embeddings, labels, combine, against) for half in draw.halves)
                bootstrap = IdentityBootstrap(own, resamples, seed + repeat)
                for target in targets:
                    name = target.name + "_normalized" * normalized
                    measured.setdefault(name, []).append(target.measure(own, other, bootstrap))
            bar.step()
    details: dict[str, Any] = {f"{target.name}_target": target.rate for target in targets}
    for name, found in measured.items():
        details |= _summary(name, found)
    half = draws[0].halves[0]
    details |= {
        "enrolled_identities": len(labels[half.enrolled].unique()),
        "stranger_identities": len(labels[half.strangers].unique()),
        "halvings": repeats,
        "interval": "over halvings",
    }
    main = measured[targets[0].name + "_normalized" * score_normalization]
    accepted = np.array([1 - one.frr for one in main])
    return ProtocolResult(*mean_ci95(accepted.tolist()), repeats, details, accepted)


@dataclass(frozen=True)
class Measured:
    """What one repeat gave: the threshold, the rate predicted and measured for it, and the false-reject rate."""

    threshold: float
    predicted: Interval
    rate: float
    frr: float


@dataclass(frozen=True)
class Target:
    """A rate that a threshold is set for: FAR, or FPIR with a gallery size."""

    name: str
    rate: float
    gallery_size: int | None

    def measure(self, own: Trials, other: Trials, bootstrap: IdentityBootstrap) -> Measured:
        """Sets the threshold on one half of the people and measures it on the other."""
        own_impostors, impostors = own.impostors, other.impostors
        if self.gallery_size is None:
            value = far_curve(own_impostors).threshold(self.rate)
            rate = measured_far(impostors, value)
        else:
            value = fpir_curve(own_impostors, self.gallery_size, most=self.rate).threshold(self.rate)
            rate = measured_fpir(impostors, value, self.gallery_size)
        predicted = bootstrap.predict(self.rate, self.gallery_size)
        return Measured(value, predicted, rate, float((other.genuine_scores < value).mean()))


@dataclass(frozen=True)
class Half:
    """Half of the people, as positions `[...]` in the split's bank.

    Attributes:
        enrolled: images of people with several.
        strangers: images of people with one.
    """

    enrolled: Tensor
    strangers: Tensor

    def trials(self, embeddings: Tensor, labels: Tensor, combine: Combine, cohort: Cohort | None) -> Trials:
        enrolled, strangers = self.enrolled, self.strangers
        return trials_from_embeddings(
            embeddings[enrolled],
            labels[enrolled],
            embeddings[strangers],
            labels[strangers],
            combine=combine,
            cohort=cohort,
        )


@dataclass(frozen=True)
class Draw:
    """Two halves of the people and, of neither, a cohort of one image each."""

    halves: tuple[Half, Half]
    cohort: Tensor


def _halve(data: LabeledImages, split: str, max_images: int, cohort: int, seed: int, repeat: int) -> Draw:
    """Halves of those with several images, and of those with one, so that they are alike."""
    labels = data.labels[split_indices(data, split)].numpy()
    rng = generator_at(seed, "threshold", repeat)
    people = {
        label: rng.permutation(np.flatnonzero(labels == label))[:max_images]
        for label in np.unique(labels).tolist()
    }
    order = rng.permutation(list(people))
    several = [label for label in order.tolist() if len(people[label]) > 1]
    single = [label for label in order.tolist() if len(people[label]) == 1]
    left_out = (single + several)[:cohort]
    if len(left_out) < cohort:
        raise DataError(f"{data.name}: split {split!r} has {len(people):,} classes; lower cohort_size")
    single, several = single[cohort:], several[max(0, cohort - len(single)) :]

    def images(chosen: list[int]) -> Tensor:
        return torch.tensor([n for label in chosen for n in people[label].tolist()], dtype=torch.int64)

    first, second = (Half(images(several[n::2]), images(single[n::2])) for n in (0, 1))
    return Draw(
        (first, second), torch.tensor([int(people[label][0]) for label in left_out], dtype=torch.int64)
    )


def _check(data: LabeledImages, split: str, half: Half, targets: list[Target]) -> None:
    """
    Raises:
        DataError: this half of the people cannot support one of the rates.
    """
    labels = data.labels[split_indices(data, split)]
    people = len(labels[half.enrolled].unique())
    probes = len(half.enrolled) + len(half.strangers)
    where = f"{data.name}: half of split {split!r}"
    if people < 2:
        raise DataError(f"{where} has {people} classes of several images, and 2 are needed to compare")
    for target in targets:
        if target.gallery_size is None:
            trials = people * probes - len(half.enrolled)
            check_support(target.rate, trials, "false-accept rate", f"impostor trials in {where}")
            continue
        if target.gallery_size > people - 1:
            raise DataError(
                f"{where} has {people:,} classes of several images, so that a probe meets {people - 1:,} others; "
                f"lower gallery_size, {target.gallery_size:,}, to that"
            )
        check_support(target.rate, probes, "false-positive identification rate", f"probes in {where}")


def _summary(name: str, found: list[Measured]) -> dict[str, Any]:
    """Fields of the result for one target."""
    rates = [one.rate for one in found]
    mean, ci95 = mean_ci95(rates)
    return {
        f"{name}_measured": mean,
        f"{name}_measured_ci95": ci95,
        f"{name}_inside": sum(one.rate in one.predicted for one in found),
        f"{name}_frr": float(np.mean([one.frr for one in found])),
        f"{name}_each": [
            {
                "threshold": one.threshold,
                "predicted": [one.predicted.low, one.predicted.high],
                "measured": one.rate,
                "frr": one.frr,
            }
            for one in found
        ],
    }
