"""Score normalization in a gallery: a cohort of other people, whose embeddings are kept with it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.evaluation.enrolled_items import best_of_owners
from vlfew.evaluation.score_normalization import Cohort, CohortScores
from vlfew.gallery.store import Index

KEY = "cohort"
"""The setting that holds it."""
NORMALIZATION = "AS-norm"
"""In the record of a threshold for normalized scores."""
SHORT_LIST = 100
"""Identities of the highest cosines, at least, among which the highest normalized scores are looked for."""


def to_setting(embeddings: Tensor, top_k: int) -> dict[str, Any]:
    """A JSON object of a cohort `[C, D]` of unit length."""
    values = embeddings.numpy().astype("<f4").tobytes()
    return {"size": len(embeddings), "top_k": top_k, "embeddings": base64.b64encode(values).decode()}


def cohort_of(settings: Mapping[str, Any]) -> Cohort | None:
    """The cohort in the settings of a gallery; None where scores are plain cosines."""
    stored = settings.get(KEY)
    if stored is None:
        return None
    values = np.frombuffer(base64.b64decode(stored["embeddings"]), "<f4").reshape(stored["size"], -1)
    return Cohort(torch.from_numpy(values.copy()), stored["top_k"])


def search(index: Index, cohort: Cohort, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Normalized scores and ids `[Q, k]` of the best identities among those of the highest cosines.

    Args:
        index: of the gallery.
        cohort: that scores are normalized against.
        queries: `[Q, D]` of unit length.
        k: how many.
    """
    cosines, ids = index.search(queries, max(SHORT_LIST, 4 * k))
    if not ids.numel():
        return cosines, ids
    found, place = ids.unique(return_inverse=True)
    templates, owner = index.templates(found.tolist())
    there = torch.isin(torch.arange(len(found)), owner)  # others were removed since the search
    of_templates = _statistics(cohort, templates, owner, len(found))
    scores = cohort.of_embeddings(queries).normalize(cosines.double(), of_templates[place])
    scores = scores.where(there[place], -torch.inf)
    best = scores.topk(min(k, int(there[place].sum(1).min())), dim=1)
    return best.values, ids.gather(1, best.indices)


def normalized_score(index: Index, cohort: Cohort, query: Tensor, identity: int) -> float:
    """Of a query `[D]` of unit length and an identity."""
    cosine = torch.tensor([index.score(query, identity)], dtype=torch.float64)
    templates, owner = index.templates([identity])
    return float(
        cohort.of_embeddings(query[None]).normalize(cosine, _statistics(cohort, templates, owner, 1))
    )


def _statistics(cohort: Cohort, templates: Tensor, owner: Tensor, count: int) -> CohortScores:
    """The cohort's statistics `[N]` of the owners `[T]` of templates `[T, D]`."""
    return cohort.of_scores(best_of_owners(cohort.embeddings @ templates.double().T, owner, count).T)
