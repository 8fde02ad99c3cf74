"""Trials: scores of probes against enrolled templates, with the identities on both sides.

Thresholds are set on the scores that a gallery gives, of one image against everything that is enrolled of an
identity, and not on scores of image pairs: a template of several images scores higher and varies less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.errors import DataError
from vlfew.evaluation.score_normalization import Cohort, CohortScores

Combine = Literal["mean", "max"]
"""How several images of an identity become one score: by the mean of their normalized embeddings, which is one
template, or by the image that is most similar."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trials:
    """T comparisons of a probe with the template of an enrolled identity.

    Attributes:
        scores: `[T]` float64, higher is more alike.
        probe_identity: `[T]` who the probe shows.
        template_identity: `[T]` whose template it is compared with; each identity has one.
        probe: `[T]` number of the probe, the same in all of its trials.

    Raises:
        DataError: the lengths differ, or a score is NaN.
    """

    scores: Floats
    probe_identity: Ints
    template_identity: Ints
    probe: Ints

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float64))
        for name in ("probe_identity", "template_identity", "probe"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        shapes = {name: np.shape(values) for name, values in vars(self).items()}
        if any(shape != (len(self.scores),) for shape in shapes.values()):
            raise DataError(f"trials need one value each, got shapes {shapes}")
        if broken := int(np.isnan(self.scores).sum()):
            raise DataError(
                f"{broken:,} of {len(self):,} scores are NaN; the embeddings have NaN or infinity"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def genuine(self) -> NDArray[np.bool_]:
        """`[T]` whether probe and template are of one identity."""
        return self.probe_identity == self.template_identity

    @cached_property
    def genuine_scores(self) -> Floats:
        return self.scores[self.genuine]

    @cached_property
    def impostors(self) -> Trials:
        """The trials of different identities."""
        return self.select(~self.genuine)

    @cached_property
    def probes(self) -> tuple[Ints, Ints, Ints]:
        """Each probe's first trial `[P]`, each trial's probe `[T]` from 0, and each probe's number of trials `[P]`."""
        numbers, inverse = numbered(self.probe)
        first = np.empty(len(numbers), np.int64)
        first[inverse[::-1]] = np.arange(len(self))[::-1]  # the last one that is written is the first trial
        counts = np.bincount(inverse, minlength=len(numbers))
        return first, inverse, counts

    def select(self, chosen: NDArray[np.bool_] | Ints) -> Trials:
        """Some of the trials."""
        return Trials(
            self.scores[chosen],
            self.probe_identity[chosen],
            self.template_identity[chosen],
            self.probe[chosen],
        )


def numbered(values: Ints) -> tuple[Ints, Ints]:
    """The distinct values `[I]`, ascending, and the number `[T]` of each: `np.unique` without sorting millions."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, -1)
    if high - low > 10 * len(values):
        return np.unique(values, return_inverse=True)
    present = np.zeros(high - low + 1, bool)
    present[values - low] = True
    return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[values - low]


def trials_from_scores(
    scores: ArrayLike,
    probe_identity: ArrayLike,
    template_identity: ArrayLike,
    own_scores: ArrayLike | None = None,
) -> Trials:
    """Trials from the scores that a gallery gave to probes.

    Args:
        scores: `[P, N]` of each probe with each template.
        probe_identity: `[P]`.
        template_identity: `[N]`, all different.
        own_scores: `[P]` of each probe with the template of its own identity without the probe; NaN where
            nothing else is enrolled of it. None where no template contains a probe, so that `scores` holds
            the genuine scores too.

    Raises:
        DataError: shapes that do not fit, two templates of one identity, or NaN among the scores.
    """
    matrix = np.asarray(scores, np.float64)
    probes, templates = np.asarray(probe_identity, np.int64), np.asarray(template_identity, np.int64)
    if matrix.shape != (len(probes), len(templates)):
        raise DataError(
            f"scores of {len(probes)} probes and {len(templates)} templates are {list(matrix.shape)}"
        )
    if len(np.unique(templates)) < len(templates):
        raise DataError("an identity has two templates; combine them into one")
    number = np.arange(len(probes))
    row, column = np.nonzero(
        (probes[:, None] != templates[None, :]) if own_scores is not None else np.ones(matrix.shape, bool)
    )
    trials = Trials(matrix[row, column], probes[row], templates[column], row)
    if own_scores is None:
        return trials
    own = np.asarray(own_scores, np.float64)
    if own.shape != (len(probes),):
        raise DataError(f"own_scores of {len(probes)} probes are {list(own.shape)}")
    known = ~np.isnan(own)
    return Trials(
        np.concatenate([trials.scores, own[known]]),
        np.concatenate([trials.probe_identity, probes[known]]),
        np.concatenate([trials.template_identity, probes[known]]),
        np.concatenate([trials.probe, number[known]]),
    )


def trials_from_pairs(scores: ArrayLike, first_identity: ArrayLike, second_identity: ArrayLike) -> Trials:
    """Trials from labeled pairs: the first of a pair is the probe, the second is enrolled by itself.

    Args:
        scores: `[M]` similarities of the pairs.
        first_identity: `[M]`; pairs are genuine where it equals `second_identity`.
        second_identity: `[M]`.
    """
    first = np.asarray(first_identity, np.int64)
    return Trials(np.asarray(scores), first, np.asarray(second_identity), np.arange(len(first)))


def trials_from_embeddings(
    embeddings: Tensor,
    labels: Tensor,
    impostors: Tensor | None = None,
    impostor_labels: Tensor | None = None,
    *,
    combine: Combine = "mean",
    cohort: Cohort | None = None,
) -> Trials:
    """Trials within a gallery: every enrolled image in turn is left out and is a probe.

    A probe meets the template of its own identity made without it (none where it is the only image), and the
    whole templates of all others. The cosine is computed in float64.

    Args:
        embeddings: `[S, D]` of enrolled images, of any length but zero.
        labels: `[S]` their identities.
        impostors: `[I, D]` of images of people who are not enrolled.
        impostor_labels: `[I]` their identities; None where each image is of someone else.
        combine: how several images of an identity become one score.
        cohort: scores are normalized against it.

    Raises:
        DataError: nothing is enrolled, no trial at all; an impostor who is enrolled; NaN or a zero embedding.
    """
    if not 0 < len(labels) == len(embeddings):
        raise DataError(
            f"{len(embeddings)} embeddings and {len(labels)} labels; one each is needed, at least one"
        )
    labels = labels.long()
    names, of_image = labels.unique(return_inverse=True)
    enrolled = _unit(embeddings)
    strangers = (
        embeddings.new_empty(0, embeddings.shape[1]).double() if impostors is None else _unit(impostors)
    )
    if impostor_labels is None:
        # Numbers that no enrolled identity has.
        impostor_labels = int(names.max()) + 1 + torch.arange(len(strangers))
    if both := sorted(set(names.tolist()) & set(impostor_labels.tolist())):
        raise DataError(f"identity {both[0]} is both enrolled and an impostor; leave it out of one of them")
    probes = torch.cat([enrolled, strangers])
    scores, own, of_templates, of_rests = (_mean if combine == "mean" else _max)(
        probes, enrolled, of_image, len(names), cohort
    )
    if cohort is not None:
        of_probes = cohort.of_embeddings(probes)
        scores = of_probes.normalize(scores, of_templates)
        own = of_probes[: len(enrolled)].normalize(own, of_rests)
    own[of_image.bincount()[of_image] == 1] = torch.nan  # nothing is left of them without the probe
    own = torch.cat([own, own.new_full((len(strangers),), torch.nan)])
    every = torch.cat([labels, impostor_labels.long()])
    trials = trials_from_scores(scores.numpy(), every.numpy(), names.numpy(), own.numpy())
    if not len(trials):
        raise DataError(
            "one image of one identity cannot be compared with anything; enroll more, or add impostors"
        )
    return trials


Scored = tuple[Tensor, Tensor, CohortScores, CohortScores]
"""Scores `[P, N]` of the probes with N templates, scores `[S]` of enrolled images with what is left of their own
template without them, and the cohort's statistics of both."""


def _mean(probes: Tensor, enrolled: Tensor, of_image: Tensor, count: int, cohort: Cohort | None) -> Scored:
    """The template is the mean of an identity's embeddings."""
    sums = enrolled.new_zeros(count, enrolled.shape[1]).index_add_(0, of_image, enrolled)
    templates, rests = normalize(sums, dim=1), normalize(sums[of_image] - enrolled, dim=1)
    statistics = [
        NO_STATISTICS if cohort is None else cohort.of_embeddings(part) for part in (templates, rests)
    ]
    return probes @ templates.T, (enrolled * rests).sum(1), statistics[0], statistics[1]


def _max(probes: Tensor, enrolled: Tensor, of_image: Tensor, count: int, cohort: Cohort | None) -> Scored:
    """An identity scores by its most similar image."""
    others = [probes] if cohort is None else [probes, cohort.embeddings]
    scores = [probes.new_empty(len(other), count) for other in others]
    rests = [probes.new_zeros(len(enrolled), len(other)) for other in others[1:]]
    own = probes.new_zeros(len(enrolled))
    for column in range(count):
        index = (of_image == column).nonzero().flatten()
        items = enrolled[index]
        for other, into in zip(others, scores, strict=True):
            into[:, column] = (other @ items.T).amax(1)
        if len(index) > 1:
            own[index] = (items @ items.T).fill_diagonal_(-torch.inf).amax(1)
            for other, rest in zip(others[1:], rests, strict=True):
                best = (items @ other.T).topk(2, dim=0)
                is_best = torch.arange(len(index))[:, None] == best.indices[0]
                rest[index] = torch.where(is_best, best.values[1], best.values[0])
    if cohort is None:
        return scores[0], own, NO_STATISTICS, NO_STATISTICS
    return scores[0], own, cohort.of_scores(scores[1].T), cohort.of_scores(rests[0])


NO_STATISTICS = CohortScores(torch.zeros(()), torch.ones(()))
"""In place of a cohort's."""


def _unit(embeddings: Tensor) -> Tensor:
    """float64 `[S, D]` of length 1."""
    embeddings = embeddings.detach().cpu().double()
    lengths = torch.linalg.vector_norm(embeddings, dim=1)
    if broken := int((~(lengths > 0) | ~lengths.isfinite()).sum()):
        raise DataError(
            f"{broken} of {len(embeddings)} embeddings are zero, NaN or infinite; their images are damaged"
        )
    return embeddings / lengths[:, None]
