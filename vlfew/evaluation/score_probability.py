"""From a score to the probability that probe and template are of one identity."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logit

from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.trials import Floats, Trials


class ScoreProbability(BaseModel):
    """A logistic function of the score, `P = sigmoid(slope * score + offset + logit(prior))`.

    The first two terms are the log-likelihood ratio of genuine and impostor scores (Brummer and du Preez
    2006, "Application-independent evaluation of speaker detection"), in which both kinds weigh the same,
    whatever their number. The prior is how probable it is, before the score is known, that the probe shows
    this identity: 0.5 for a claim as likely true as false; lower for one of N enrolled, when strangers come
    too.

    Attributes:
        slope: above 0.
        offset: log-likelihood ratio of a score of 0.
        prior: probability of a genuine trial, unless another is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    slope: float
    offset: float
    prior: float = 0.5

    @classmethod
    def fit(cls, trials: Trials, prior: float = 0.5) -> Self:
        """By scikit-learn's logistic regression over standardized scores, with its default regularization.

        The regularization weighs like one trial of each kind, so that the slope stays finite where no
        impostor scores above a genuine probe.

        Raises:
            DataError: no genuine or no impostor trial, or scores that are not higher for genuine ones.
        """
        from sklearn.linear_model import LogisticRegression  # loads pandas

        _check_prior(prior)
        genuine = trials.genuine
        counts = int((~genuine).sum()), int(genuine.sum())
        if not all(counts):
            raise DataError(
                f"{counts[1]:,} genuine and {counts[0]:,} impostor scores: both kinds are needed for a probability"
            )
        center, spread = float(trials.scores.mean()), float(trials.scores.std()) or 1.0
        weights = np.where(genuine, min(counts) / counts[1], min(counts) / counts[0])
        fitted = LogisticRegression().fit(
            ((trials.scores - center) / spread)[:, None], genuine, sample_weight=weights
        )
        slope = float(fitted.coef_[0, 0]) / spread
        if not slope > 0:
            raise DataError(
                "genuine trials do not score higher than impostors; the model cannot tell them apart"
            )
        return cls(slope=slope, offset=float(fitted.intercept_[0]) - slope * center, prior=prior)

    def __call__(self, scores: Floats | float, prior: float | None = None) -> Floats:
        """Probabilities of scores, of their shape."""
        if prior is not None:
            _check_prior(prior)
        odds = logit(self.prior if prior is None else prior)
        return np.asarray(expit(self.slope * np.asarray(scores, np.float64) + self.offset + odds))


def _check_prior(prior: float) -> None:
    if not 0 < prior < 1:
        raise ConfigError(f"prior is {prior!r}; it must be above 0 and below 1")
