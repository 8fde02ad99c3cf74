"""Everything that is enrolled, and the trials of each image against what is enrolled without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.errors import DataError
from vlfew.evaluation.score_normalization import Cohort, CohortScores
from vlfew.evaluation.templates import Combine, Support, make_templates
from vlfew.evaluation.trials import Trials, trials_from_scores


@dataclass(frozen=True, eq=False)
class EnrolledItems:
    """Images and texts of identities.

    Attributes:
        embedding: `[S, D]` of unit length.
        identity: `[S]`, any numbers.
        is_text: `[S]` bool; None where all are images.
        combine: rule for several images.
        text_weight: share of the texts where there are both.
        cohort: scores are normalized against it.
        most_identities: of more, so many are drawn: 5,000 with three images each give 75 million trials.
    """

    embedding: Tensor
    identity: Tensor
    is_text: Tensor | None = None
    combine: Combine = "mean"
    text_weight: float = 0.5
    cohort: Cohort | None = None
    most_identities: int | None = None

    @property
    def _texts(self) -> Tensor:
        """`[S]` bool."""
        return torch.zeros(len(self.identity), dtype=torch.bool) if self.is_text is None else self.is_text

    def trials(
        self,
        support: Support = "image",
        strangers: Tensor | None = None,
        stranger_identity: Tensor | None = None,
    ) -> Trials:
        """Every enrolled image, and images of strangers, against templates of one kind.

        An image meets the template of its own identity made without it; none where nothing is left of that. For texts,
        the texts of identities that have images too are templates of their own, since a text alone has no image to test
        it. Cosines are computed in float64.

        Args:
            support: what templates are made of: `image`, the images of everyone who has any; `text`, the same of texts;
                `both`, identities that have both.
            strangers: `[I, D]` of unit length, who are not enrolled.
            stranger_identity: `[I]`, none of them enrolled.

        Raises:
            DataError: no trial at all.
        """
        ids = self._template_ids(support)
        used = torch.isin(self.identity, ids)
        if support != "both":
            used &= self._texts == (support == "text")
        number = torch.searchsorted(ids, self.identity[used])
        own, is_text = self.embedding[used].double(), self._texts[used]
        templates, owner, _ = make_templates(own, number, is_text, len(ids), self.combine, self.text_weight)
        rows = self.probe_rows(support)
        everyone, who = self.embedding[rows].double(), self.identity[rows]
        if strangers is not None and stranger_identity is not None:
            everyone, who = torch.cat([everyone, strangers.double()]), torch.cat([who, stranger_identity])
        if not len(ids) or not len(everyone):
            raise DataError(f"no identity has {'images and texts' if support == 'both' else support + 's'}")
        scores = best_of_owners(everyone @ templates.T, owner, len(ids))
        enrolled = torch.isin(self.identity[rows], ids).nonzero().flatten()
        place = torch.searchsorted(ids, self.identity[rows][enrolled])
        left_out = _LeftOut(templates, owner, len(ids), everyone[enrolled], place, own, number, is_text, self)
        of_itself = scores[enrolled, place] if support == "text" else left_out.scores()
        if self.cohort is not None:
            of_probes = self.cohort.of_embeddings(everyone)
            cosines = best_of_owners(self.cohort.embeddings @ templates.T, owner, len(ids))
            of_templates = self.cohort.of_scores(cosines.T)
            scores = of_probes.normalize(scores, of_templates)
            of_rests = of_templates[place] if support == "text" else left_out.cohort_scores(self.cohort)
            of_itself = of_probes[enrolled].normalize(of_itself, of_rests)
        if support != "text":  # nothing is left without the only image
            of_itself[place.bincount(minlength=len(ids))[place] == 1] = torch.nan
        rest = scores.new_full((len(everyone),), torch.nan)
        rest[enrolled] = of_itself
        return trials_from_scores(scores.numpy(), who.numpy(), ids.numpy(), rest.numpy())

    def probe_rows(self, support: Support) -> Tensor:
        """The rows of the images that are the probes of `trials`, in their order."""
        rows = (~self._texts).nonzero().flatten()
        if self.most_identities is not None and len(self.identity[rows].unique()) > self.most_identities:
            rows = rows[torch.isin(self.identity[rows], self._template_ids(support))]
        return rows

    def _template_ids(self, support: Support) -> Tensor:
        """The identities that have a template in `trials`, ascending."""
        images, texts = self.identity[~self._texts].unique(), self.identity[self._texts].unique()
        ids = {"image": images, "text": texts, "both": images[torch.isin(images, texts)]}[support]
        if self.most_identities is not None and len(ids) > self.most_identities:
            order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
            ids = ids[order[: self.most_identities]].sort().values
        return ids


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """Images `[P, D]`, each against the template of its identity without it.

    Attributes:
        templates, owner, count: of all; with the rule `max`, the first P are those of the images, in their order.
        images: `[P, D]`.
        identity: of each image, 0 to N-1.
        own, own_identity, own_is_text: all items that templates are made of.
        items: for the rule.
    """

    templates: Tensor
    owner: Tensor
    count: int
    images: Tensor
    identity: Tensor
    own: Tensor
    own_identity: Tensor
    own_is_text: Tensor
    items: EnrolledItems

    def scores(self) -> Tensor:
        """`[P]`."""
        if self.items.combine == "mean":
            return (self.images * self._rests()).sum(1)
        cosines = self.images @ self.templates.T
        cosines[torch.arange(len(self.images)), torch.arange(len(self.images))] = -torch.inf
        return best_of_owners(cosines, self.owner, self.count).gather(1, self.identity[:, None])[:, 0]

    def cohort_scores(self, cohort: Cohort) -> CohortScores:
        """The cohort's statistics `[P]` of these templates."""
        if self.items.combine == "mean":
            return cohort.of_embeddings(self._rests())
        cosines = cohort.embeddings @ self.templates.T
        best = best_of_owners(cosines, self.owner, self.count)
        is_best = cosines == best[:, self.owner]
        alone = torch.zeros_like(best).index_add_(1, self.owner, is_best.double()) == 1
        second = best_of_owners(cosines.masked_fill(is_best, -torch.inf), self.owner, self.count)
        images = slice(len(self.images))
        without = torch.where(
            (is_best & alone[:, self.owner])[:, images], second[:, self.identity], best[:, self.identity]
        )
        return cohort.of_scores(without.T)

    def _rests(self) -> Tensor:
        """Mean templates `[P, D]` without each image."""
        sums = self.images.new_zeros(self.count, self.images.shape[1])
        rests = normalize(sums.index_add(0, self.identity, self.images)[self.identity] - self.images, dim=1)
        if not self.own_is_text.any():
            return rests
        texts = sums.index_add(0, self.own_identity[self.own_is_text], self.own[self.own_is_text])
        weight = self.items.text_weight
        return normalize((1 - weight) * rests + weight * normalize(texts, dim=1)[self.identity], dim=1)


def best_of_owners(cosines: Tensor, owner: Tensor, count: int) -> Tensor:
    """Cosines `[P, T]` with templates to scores `[P, N]` with their owners `[T]`, the best template counting."""
    scores = cosines.new_full((len(cosines), count), -torch.inf)
    return scores.scatter_reduce(1, owner.expand(len(cosines), -1), cosines, "amax")


def trials_from_embeddings(
    embeddings: Tensor,
    labels: Tensor,
    impostors: Tensor | None = None,
    impostor_labels: Tensor | None = None,
    *,
    combine: Combine = "mean",
    cohort: Cohort | None = None,
) -> Trials:
    """Trials of images: every enrolled one in turn is left out and is a probe.

    A probe meets the template of its own identity made without it (none where it is the only image), and the
    whole templates of all others.

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
    labels, strangers = labels.long(), None if impostors is None else _unit(impostors)
    if strangers is not None and impostor_labels is None:
        # Numbers that no enrolled identity has.
        impostor_labels = int(labels.max()) + 1 + torch.arange(len(strangers))
    if impostor_labels is not None and (both := set(labels.tolist()) & set(impostor_labels.tolist())):
        raise DataError(f"identity {min(both)} is both enrolled and an impostor; leave it out of one of them")
    items = EnrolledItems(_unit(embeddings), labels, combine=combine, cohort=cohort)
    trials = items.trials("image", strangers, None if impostor_labels is None else impostor_labels.long())
    if not len(trials):
        raise DataError(
            "one image of one identity cannot be compared with anything; enroll more, or add impostors"
        )
    return trials


def _unit(embeddings: Tensor) -> Tensor:
    """float64 `[S, D]` of length 1."""
    embeddings = embeddings.detach().cpu().double()
    lengths = torch.linalg.vector_norm(embeddings, dim=1)
    if broken := int((~(lengths > 0) | ~lengths.isfinite()).sum()):
        raise DataError(
            f"{broken} of {len(embeddings)} embeddings are zero, NaN or infinite; their images are damaged"
        )
    return embeddings / lengths[:, None]
