"""What a gallery's own images say of its scores: trials, thresholds and probabilities by kind of support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.evaluation.enrolled_items import EnrolledItems, trials_from_embeddings
from vlfew.evaluation.score_probability import ScoreProbability
from vlfew.evaluation.templates import Combine, Support
from vlfew.evaluation.thresholds import Source, Threshold, calibrate_threshold
from vlfew.evaluation.trials import Trials
from vlfew.gallery.cohort import NORMALIZATION

NAMES: dict[Support, str] = {
    "image": "identities of images",
    "text": "identities of texts",
    "both": "identities of images and texts",
}
MOST_IDENTITIES = 5000
"""Of a larger gallery, so many identities are drawn: their trials are 25 million and more."""
MOST_SIZE = 1_000_000
"""The largest gallery that thresholds are re-scaled to."""


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what makes a probability of a score, for one kind of support.

    Attributes:
        threshold: with what it stands for.
        probability: None where there were no genuine trials to fit it on.
    """

    threshold: Threshold
    probability: ScoreProbability | None

    @classmethod
    def fit(
        cls,
        trials: Trials,
        *,
        far: float | None,
        fpir: float | None,
        gallery_size: int,
        source: Source,
        support: Support,
        combine: Combine,
        normalization: str = "none",
        images: str = "",
    ) -> Self:
        """See `calibrate_threshold`.

        Raises:
            ConfigError: not one rate.
            DataError: too few trials for it.
        """
        threshold = calibrate_threshold(
            trials,
            far=far,
            fpir=fpir,
            gallery_size=None if fpir is None else min(gallery_size, MOST_SIZE),
            source=source,
            support=support,
            combine=combine,
            normalization=normalization,
            images=images,
        )
        try:
            probability = ScoreProbability.fit(trials)
        except DataError:
            probability = None
        return cls(threshold, probability)

    def value(self, gallery_size: int) -> float:
        """The threshold for so many identities."""
        return self.threshold.for_gallery_size(max(1, min(gallery_size, MOST_SIZE))).value

    def to_json(self) -> dict[str, Any]:
        """JSON values; `value` is the threshold."""
        probability = None if self.probability is None else self.probability.model_dump(mode="json")
        threshold = self.threshold.model_dump(mode="json")
        return {"value": self.threshold.value, "threshold": threshold, "probability": probability}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self | None:
        """Of `to_json`; None for a bare value that was set by hand."""
        if "threshold" not in stored:
            return None
        probability = stored.get("probability")
        return cls(
            Threshold.model_validate(stored["threshold"]),
            None if probability is None else ScoreProbability.model_validate(probability),
        )


def calibrate_kinds(
    enrolled: EnrolledItems,
    kinds: Iterable[Support],
    strangers: Tensor,
    stranger_identity: Tensor,
    *,
    far: float | None,
    fpir: float | None,
    gallery_size: int,
    validation: Callable[[], tuple[Tensor, Tensor] | None] | None,
    reference: Calibration | None = None,
) -> tuple[dict[Support, Calibration], list[str]]:
    """A calibration for each kind of support, from the gallery's own images or else the model's validation images.

    Args:
        enrolled: the items of the gallery.
        kinds: of support that are wanted.
        strangers: embeddings `[I, D]` of unit length; who is not enrolled.
        stranger_identity: `[I]`, which of these are of one person; none of them is enrolled.
        far, fpir, gallery_size: see `calibrate_threshold`.
        validation: gives embeddings `[V, D]` and labels `[V]`, or None; called where the gallery's own images are too
            few.
        reference: serves identities of images where there are no validation images either.

    Returns:
        The calibrations, and a line for each kind that the images are too few for.

    Raises:
        ConfigError: not one rate.
    """
    found: dict[Support, Calibration] = {}
    problems = []
    for kind in kinds:
        fit = partial(
            Calibration.fit,
            far=far,
            fpir=fpir,
            gallery_size=gallery_size,
            support=kind,
            combine=enrolled.combine,
            normalization="none" if enrolled.cohort is None else NORMALIZATION,
        )
        try:
            found[kind] = fit(enrolled.trials(kind, strangers, stranger_identity), source="own images")
            continue
        except DataError as error:
            problem = f"{NAMES[kind]}: {error}"
        images = validation() if kind == "image" and validation is not None else None
        if images is not None:
            with suppress(DataError):  # they are too few as well
                trials = trials_from_embeddings(*images, combine=enrolled.combine, cohort=enrolled.cohort)
                found[kind] = fit(trials, source="validation split of the model")
        if kind == "image" and kind not in found and reference is not None:
            found[kind] = reference
        if kind not in found:
            problems.append(problem)
    return found, problems
