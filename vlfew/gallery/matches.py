"""What a gallery answers: identities with their scores, and whether these are high enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

from vlfew.core.errors import ConfigError
from vlfew.evaluation.templates import Support
from vlfew.gallery.calibration import Calibration


class Match(NamedTuple):
    """An identity that an image was compared with.

    Attributes:
        name: of the identity.
        score: cosine to what it is made of, -1 to 1; standard deviations where scores are normalized against a cohort.
        support: what that is: `image`, `text` or `both`; scores of different kinds cannot be compared.
        accepted: whether the score reaches the threshold; None without one.
        threshold: the score that is asked for; None for none.
        probability: that this is the identity; None until the gallery is calibrated. Before the score is known, it is
            one half where an identity was named (`verify`), and 1 in N + 1 where N are enrolled (`identify`).
        id: of the identity; it stays the same when that is renamed.
    """

    name: str
    score: float
    support: Support
    accepted: bool | None
    threshold: float | None
    probability: float | None = None
    id: int = 0


@dataclass(frozen=True)
class Identification:
    """The best matches of an image, best first."""

    image: str
    matches: list[Match]

    @property
    def name(self) -> str | None:
        """The best accepted identity, or the best one where there is no threshold; None is unknown."""
        return next((match.name for match in self.matches if match.accepted is not False), None)


class Decisions:
    """Turns scores into matches, by the thresholds of a gallery's settings.

    Args:
        thresholds: for each kind of support a JSON object with a `value` and, where it was calibrated, what it stands
            for. Those that were calibrated for scores of another normalization count for nothing.
        normalization: of the scores.
    """

    def __init__(self, thresholds: Mapping[Support, Mapping[str, Any]], normalization: str = "none") -> None:
        self.stored, self.normalization = thresholds, normalization
        read = {kind: Calibration.from_json(stored) for kind, stored in thresholds.items()}
        self.calibrations = {
            kind: one
            for kind, one in read.items()
            if one is not None and one.threshold.normalization == normalization
        }
        self.thresholds = {
            kind: thresholds[kind] for kind, one in read.items() if one is None or kind in self.calibrations
        }

    def match(
        self,
        name: str,
        score: float,
        support: Support,
        *,
        threshold: float | None,
        prior: float,
        gallery_size: int,
        identity: int = 0,
    ) -> Match:
        """The match of one identity.

        Args:
            name: of the identity.
            score: of the image with it.
            support: what it is made of.
            threshold: the lowest score that is accepted; None takes the gallery's own for this kind of support.
            prior: probability that this is the identity before the score is known.
            gallery_size: number of identities, which a threshold for an FPIR follows.
            identity: id of the identity.
        """
        calibration, probability = self.calibrations.get(support), None
        if calibration is not None and calibration.probability is not None:
            probability = float(calibration.probability(score, prior))
        if threshold is None and calibration is not None:
            threshold = calibration.value(gallery_size)
        elif threshold is None and support in self.thresholds:
            threshold = float(self.thresholds[support]["value"])
        accepted = None if threshold is None else score >= threshold
        return Match(name, score, support, accepted, threshold, probability, identity)


def check_threshold(threshold: float | None) -> None:
    """
    Raises:
        ConfigError: NaN, infinity, or not a number.
    """
    if threshold is None:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not math.isfinite(threshold):
        raise ConfigError(f"threshold is {threshold!r}; it must be a finite number, such as 0.5")
