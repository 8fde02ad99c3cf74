"""Whether probabilities are right: expected calibration error, and temperature scaling."""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from torch import Tensor

BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
"""The search range: where every answer is correct, the likelihood grows without end as the temperature falls."""


def expected_calibration_error(logits: Tensor, target: Tensor, temperature: float = 1.0) -> float:
    """ECE of Guo et al. 2017, equation 3, with 15 bins of equal width.

    Predictions fall into bins by their confidence, the largest of `softmax(logits / temperature)`; bin m is
    `((m - 1) / 15, m / 15]`. The error is the mean over predictions of the distance, within their bin,
    between accuracy and mean confidence. (scikit-learn's `calibration_curve` does not return how many
    predictions are in a bin, by which they are weighted here.)

    Args:
        logits: `[Q, N]`.
        target: `[Q]` correct classes.
        temperature: divides the logits.
    """
    confidence, predicted = (logits.double() / temperature).softmax(-1).max(-1)
    correct = (predicted == target).double()
    # Right-closed, so that full confidence is in the last bin.
    bin_of = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64, device=logits.device)
    gap.index_add_(0, bin_of, correct - confidence)
    return float(gap.abs().sum() / len(target))


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """The temperature in `[0.001, 1000]` with the highest likelihood of the correct classes.

    Guo et al. 2017, section 4.2: the smallest mean of `-log softmax(logits / T)[target]`. It is convex in
    1 / T, so that its slope, the mean of the expected logit minus the correct one's, has one root.

    Args:
        logits: `[Q, N]`, of images that the temperature is not evaluated on.
        target: `[Q]` correct classes.
    """
    logits = logits.double()
    correct = logits.gather(1, target.unsqueeze(1)).mean()

    def slope(log_inverse: float) -> float:
        scaled = torch.softmax(logits * math.exp(log_inverse), -1)
        return float((scaled * logits).sum(-1).mean() - correct)

    low, high = -math.log(MAX_TEMPERATURE), -math.log(MIN_TEMPERATURE)
    if slope(high) < 0:
        return MIN_TEMPERATURE
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    return math.exp(-brentq(slope, low, high, xtol=1e-12))
