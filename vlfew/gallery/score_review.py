"""What thresholds would do to the gallery's own images: error rates at each, and the pairs on either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vlfew.core.errors import DataError
from vlfew.evaluation.enrolled_items import EnrolledItems
from vlfew.evaluation.templates import Support
from vlfew.gallery.index import Items

MOST_IMPOSTORS = 200_000
"""Impostor trials that are kept for looking at, those of the highest scores."""
POINTS = 400


class TooFewImages(DataError):
    """The gallery's images allow no comparison of the kind."""


class Point(NamedTuple):
    """Error rates at a threshold: FAR, the share of impostor trials that are accepted, and FRR, of genuine ones that
    are rejected."""

    threshold: float
    far: float
    frr: float


class ReviewedTrial(NamedTuple):
    """A comparison of an enrolled image with an identity.

    Attributes:
        score: of them.
        item: id of the image.
        probe_identity: id of who the image is of.
        identity: id of whom it was compared with.
    """

    score: float
    item: int
    probe_identity: int
    identity: int


@dataclass(frozen=True)
class ScoreReview:
    """Scores of the gallery's own images, each left out of its own identity's template.

    Attributes:
        support: what templates are made of.
        identities: number of identities with a template.
        impostors: number of impostor trials.
        points: error rates at ascending thresholds.
        genuine: genuine trials, worst first.
        closest: the impostor trials of the highest scores, best first.
    """

    support: Support
    identities: int
    impostors: int
    points: list[Point]
    genuine: list[ReviewedTrial]
    closest: list[ReviewedTrial]
    _genuine_scores: NDArray[np.float64]
    _closest_scores: NDArray[np.float64]

    @classmethod
    def of(cls, items: Items, enrolled: EnrolledItems, support: Support) -> Self:
        """
        Raises:
            TooFewImages: there is no genuine or no impostor trial.
        """
        dim = enrolled.embedding.shape[1]
        try:
            trials = enrolled.trials(support, torch.empty(0, dim), torch.empty(0, dtype=torch.int64))
        except DataError as error:
            raise TooFewImages(str(error)) from None
        genuine, impostor = trials.genuine.nonzero()[0], (~trials.genuine).nonzero()[0]
        if not len(genuine):
            raise TooFewImages(
                "no identity has two images, so that no image can be compared with its own identity; enroll a second "
                "image of some"
            )
        if not len(impostor):
            raise TooFewImages("there are no two identities to compare; enroll another one")
        rows = enrolled.probe_rows(support).numpy()
        genuine = genuine[np.argsort(trials.scores[genuine], kind="stable")]
        scores = trials.scores[impostor]
        if len(impostor) > MOST_IMPOSTORS:
            impostor = impostor[np.argpartition(-scores, MOST_IMPOSTORS)[:MOST_IMPOSTORS]]
        impostor = impostor[np.argsort(-trials.scores[impostor], kind="stable")]

        def reviewed(chosen: NDArray[np.int64]) -> list[ReviewedTrial]:
            item = items.item.numpy()[rows[trials.probe[chosen]]]
            columns = (
                trials.scores[chosen],
                item,
                trials.probe_identity[chosen],
                trials.template_identity[chosen],
            )
            return [ReviewedTrial(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]

        return cls(
            support,
            len(np.unique(trials.template_identity)),
            len(scores),
            error_rates(trials.scores[genuine], scores),
            reviewed(genuine),
            reviewed(impostor),
            trials.scores[genuine],
            trials.scores[impostor],
        )

    def accepted_impostors(self, threshold: float, limit: int) -> list[ReviewedTrial]:
        """Impostors at or above a threshold, the highest scores first."""
        return self.closest[: min(limit, self._accepted(threshold))]

    def closest_impostors(self, threshold: float, limit: int) -> list[ReviewedTrial]:
        """Impostors below a threshold, the highest scores first."""
        start = self._accepted(threshold)
        return self.closest[start : start + limit]

    def rejected_genuine(self, threshold: float, limit: int) -> list[ReviewedTrial]:
        """Genuine trials below a threshold, the lowest scores first."""
        return self.genuine[: min(limit, self._rejected(threshold))]

    def hardest_genuine(self, threshold: float, limit: int) -> list[ReviewedTrial]:
        """Genuine trials at or above a threshold, the lowest scores first."""
        start = self._rejected(threshold)
        return self.genuine[start : start + limit]

    def _accepted(self, threshold: float) -> int:
        return int(np.searchsorted(-self._closest_scores, -threshold, side="right"))

    def _rejected(self, threshold: float) -> int:
        return int(np.searchsorted(self._genuine_scores, threshold, side="left"))


def error_rates(
    genuine: NDArray[np.float64], impostor: NDArray[np.float64], most: int = POINTS
) -> list[Point]:
    """Error rates at thresholds where they change, dense where the FAR is low.

    Args:
        genuine: scores of genuine trials.
        impostor: scores of impostor trials.
        most: how many thresholds, at most.
    """
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    half = most // 2 - 2
    # From above, the n-th impostor for n on a logarithmic scale: a FAR of 1e-4 is as finely resolved as one of 1e-1.
    ranks = np.unique(np.geomspace(1, len(impostor), min(half, len(impostor))).round().astype(np.int64))
    thresholds = np.concatenate(
        [
            impostor[len(impostor) - ranks],
            genuine[np.unique(np.linspace(0, len(genuine) - 1, min(half, len(genuine))).astype(np.int64))],
            [np.nextafter(max(impostor[-1], genuine[-1]), np.inf)],
        ]
    )
    thresholds = np.unique(thresholds)
    accepted = 1 - np.searchsorted(impostor, thresholds, side="left") / len(impostor)
    rejected = np.searchsorted(genuine, thresholds, side="left") / len(genuine)
    return [
        Point(*row) for row in zip(thresholds.tolist(), accepted.tolist(), rejected.tolist(), strict=True)
    ]
