"""Trials: scores of probes against enrolled templates, with the identities on both sides.

Thresholds are set on the scores that a gallery gives, of one image against everything that is enrolled of an
identity, and not on scores of image pairs: a template of several images scores higher and varies less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlfew.core.errors import DataError

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
