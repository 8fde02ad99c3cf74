"""What a gallery's own images say of its scores: trials, thresholds and probabilities by kind of support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.errors import DataError
from vlfew.evaluation.score_probability import ScoreProbability
from vlfew.evaluation.thresholds import Source, Support, Threshold, calibrate_threshold
from vlfew.evaluation.trials import Combine, Trials, trials_from_embeddings, trials_from_scores
from vlfew.gallery.templates import make_templates

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
class EnrolledItems:
    """The items of a gallery.

    Attributes:
        embedding: `[S, D]` of unit length.
        identity: `[S]`, any numbers.
        is_text: `[S]` bool.
        combine: the gallery's rule for several images.
        text_weight: share of the texts where there are both.
    """

    embedding: Tensor
    identity: Tensor
    is_text: Tensor
    combine: Combine
    text_weight: float

    def trials(self, support: Support, strangers: Tensor, stranger_identity: Tensor) -> Trials:
        """Every enrolled image, and images of strangers, against templates of one kind, as the gallery scores them.

        An image meets the template of its own identity made without it. For texts, the texts of identities that have
        images too are templates of their own, since a text alone has no image to test it.

        Args:
            support: what templates are made of: `image`, the images of everyone who has any; `text`, the same of texts;
                `both`, identities that have both.
            strangers: `[I, D]` of unit length; who is not enrolled.
            stranger_identity: `[I]`, which of these are of one person.

        Raises:
            DataError: no trial at all.
        """
        ids = self._template_ids(support)
        used = torch.isin(self.identity, ids)
        if support != "both":
            used &= self.is_text == (support == "text")
        number = torch.searchsorted(ids, self.identity[used])
        own, is_text = self.embedding[used].double(), self.is_text[used]
        templates, owner, _ = make_templates(own, number, is_text, len(ids), self.combine, self.text_weight)
        rows = self.probe_rows(support)
        probes, probe_identity = self.embedding[rows].double(), self.identity[rows]
        everyone = torch.cat([probes, strangers.double()])
        cosines = everyone @ templates.T
        scores = _of_owners(cosines, owner, len(ids))
        rest = scores.new_full((len(everyone),), torch.nan)
        enrolled = torch.isin(probe_identity, ids).nonzero().flatten()
        place = torch.searchsorted(ids, probe_identity[enrolled])
        if support == "text":
            rest[enrolled] = scores[enrolled, place]
        elif self.combine == "max":
            # The templates are those of the images, in their order.
            cosines[enrolled, torch.arange(len(enrolled))] = -torch.inf
            rest[enrolled] = _of_owners(cosines, owner, len(ids))[enrolled, place]
        else:
            rest[enrolled] = self._without_themselves(probes[enrolled], place, own[is_text], number[is_text])
        alone = place.bincount(minlength=len(ids))[place] == 1
        if support != "text":
            rest[enrolled[alone]] = torch.nan  # nothing is left without the probe
        offset = 1 + (int(self.identity.max()) if len(self.identity) else 0)
        who = torch.cat([probe_identity, offset + stranger_identity])
        if not len(ids) or not len(everyone):
            raise DataError(f"no identity has {'images and texts' if support == 'both' else support + 's'}")
        return trials_from_scores(scores.numpy(), who.numpy(), ids.numpy(), rest.numpy())

    def probe_rows(self, support: Support) -> Tensor:
        """The rows of the images that are the probes of `trials`, in their order."""
        rows = (~self.is_text).nonzero().flatten()
        if len(self.identity[rows].unique()) > MOST_IDENTITIES:
            rows = rows[torch.isin(self.identity[rows], self._template_ids(support))]
        return rows

    def _template_ids(self, support: Support) -> Tensor:
        """The identities that have a template in `trials`, ascending."""
        images, texts = self.identity[~self.is_text].unique(), self.identity[self.is_text].unique()
        ids = {"image": images, "text": texts, "both": images[torch.isin(images, texts)]}[support]
        if len(ids) > MOST_IDENTITIES:
            ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))[:MOST_IDENTITIES]]
            ids = ids.sort().values
        return ids

    def _without_themselves(
        self, images: Tensor, identity: Tensor, texts: Tensor, text_identity: Tensor
    ) -> Tensor:
        """Scores `[P]` of images `[P, D]` with the mean templates of their identities, made without them."""
        count = int(identity.max()) + 1 if len(identity) else 0
        sums = images.new_zeros(count, images.shape[1])
        others = normalize(sums.index_add(0, identity, images)[identity] - images, dim=1)
        if not len(texts):
            return (images * others).sum(1)
        texts = normalize(sums.index_add(0, text_identity, texts), dim=1)[identity]
        templates = normalize((1 - self.text_weight) * others + self.text_weight * texts, dim=1)
        return (images * templates).sum(1)


def _of_owners(cosines: Tensor, owner: Tensor, count: int) -> Tensor:
    """Cosines `[P, T]` with templates to scores `[P, N]` with their owners `[T]`, the best template counting."""
    scores = cosines.new_full((len(cosines), count), -torch.inf)
    return scores.scatter_reduce(1, owner.expand(len(cosines), -1), cosines, "amax")


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
) -> tuple[dict[Support, Calibration], list[str]]:
    """A calibration for each kind of support, from the gallery's own images or else the model's validation images.

    Args:
        enrolled: the items of the gallery.
        kinds: of support that are wanted.
        strangers: embeddings `[I, D]` of unit length; who is not enrolled.
        stranger_identity: `[I]`, which of these are of one person.
        far, fpir, gallery_size: see `calibrate_threshold`.
        validation: gives embeddings `[V, D]` and labels `[V]`, or None; called where the gallery's own images are too
            few.

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
        )
        try:
            found[kind] = fit(enrolled.trials(kind, strangers, stranger_identity), source="own images")
        except DataError as error:
            images = validation() if kind == "image" and validation is not None else None
            if images is None:
                problems.append(f"{NAMES[kind]}: {error}")
                continue
            trials = trials_from_embeddings(*images, combine=enrolled.combine)
            found[kind] = fit(trials, source="validation split of the model")
    return found, problems
