"""Score normalization against a cohort: how much more alike are these two than either is to other people?

Some embeddings are close to everybody's. Symmetric normalization (S-norm) takes a score's distance from the
mean score of a cohort, in standard deviations, once from the probe's side and once from the template's, and
averages the two; adaptive symmetric normalization (AS-norm) takes only the k most similar of the cohort.
Cumani et al. 2011 ("Comparison of speaker recognition approaches for real applications"); Matejka
et al. 2017 ("Analysis of score normalization in multilingual speaker recognition"), where it is adaptive
S-norm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.errors import ConfigError, DataError

TOP_K = 200
"""Cohort members that a score is normalized by; a few hundred is usual."""


@dataclass(frozen=True, eq=False)
class CohortScores:
    """Mean and standard deviation of scores with the cohort.

    Attributes:
        mean: `[...]`.
        deviation: `[...]`, above zero.
    """

    mean: Tensor
    deviation: Tensor

    def __getitem__(self, index: int | slice | Tensor) -> CohortScores:
        return CohortScores(self.mean[index], self.deviation[index])

    def normalize(self, scores: Tensor, template: CohortScores) -> Tensor:
        """AS-norm of raw scores, `((s - m_p) / d_p + (s - m_t) / d_t) / 2`.

        Args:
            scores: `[P]` or `[P, N]` of probes, whose statistics these are `[P]`.
            template: statistics of the template, or of N templates.
        """
        mean, deviation = self.mean, self.deviation
        if scores.dim() == 2:
            mean, deviation = mean[:, None], deviation[:, None]
        return ((scores - mean) / deviation + (scores - template.mean) / template.deviation) / 2


class Cohort:
    """Embeddings of people who are neither enrolled nor probes.

    Args:
        embeddings: `[C, D]`, best one for each identity.
        top_k: number of most similar members that count; None for all of them (S-norm).

    Raises:
        ConfigError: `top_k` is below 2 or above C.
        DataError: fewer than two embeddings.
    """

    def __init__(self, embeddings: Tensor, top_k: int | None = TOP_K) -> None:
        if len(embeddings) < 2:
            raise DataError(f"a cohort of {len(embeddings)} has no standard deviation; give more images")
        if top_k is not None and not 2 <= top_k <= len(embeddings):
            raise ConfigError(
                f"top_k is {top_k}; it must be from 2 to {len(embeddings)}, the size of the cohort"
            )
        self.embeddings = normalize(embeddings.detach().cpu().double(), dim=1)
        self.top_k = len(embeddings) if top_k is None else top_k

    def of_embeddings(self, embeddings: Tensor) -> CohortScores:
        """Statistics `[P]` of embeddings `[P, D]`, probes or mean templates."""
        return self.of_scores(normalize(embeddings.double(), dim=-1) @ self.embeddings.T)

    def of_scores(self, scores: Tensor) -> CohortScores:
        """Statistics `[...]` of the k highest of scores with the cohort `[..., C]`."""
        top = scores.topk(self.top_k, dim=-1).values
        # A probe that is as similar to all of the cohort must not divide by zero.
        return CohortScores(top.mean(-1), top.std(-1, correction=0).clamp(min=torch.finfo(top.dtype).eps))
