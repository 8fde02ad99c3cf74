"""Whether a classifier is right as often as it says: expected calibration error, temperature scaling."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15
COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures that are looked for. Where every answer is right, the colder the more likely, without end."""
HALVINGS = 40
"""Of the logarithm of that range: to eleven digits."""


def expected_calibration_error(scores: Tensor, target: Tensor, temperature: float = 1.0) -> float:
    """ECE of Guo et al. 2017, equation 3, with 15 bins of equal width.

    Answers fall into bins by their confidence, the largest of `softmax(scores / temperature)`; bin m is
    `((m - 1) / 15, m / 15]`. The error is the mean over answers of the distance, within their bin,
    between the share that is right and the mean confidence.

    Args:
        scores: `[Q, N]`.
        target: `[Q]` right classes.
        temperature: that scores are divided by.
    """
    confidence, answer = (scores.double() / temperature).softmax(-1).max(-1)
    right = (answer == target).double()
    # Right-closed, so that full confidence is in the last bin.
    place = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64, device=scores.device)
    gap.index_add_(0, place, right - confidence)
    return float(gap.abs().sum() / len(target))


def fit_temperature(scores: Tensor, target: Tensor) -> float:
    """The temperature in `[0.001, 1000]` under which the right classes are the most likely.

    Guo et al. 2017, section 4.2: the least mean of `-log softmax(scores / T)[target]`. It is convex in
    1 / T, and its slope, the mean over answers of the expected score less the right one's, is halved in
    on.

    Args:
        scores: `[Q, N]`, of images that are not the ones to be judged.
        target: `[Q]` right classes.
    """
    scores = scores.double()
    right = scores.gather(1, target.unsqueeze(1)).mean()

    def slope(inverse: Tensor) -> Tensor:
        return (torch.softmax(scores * inverse, -1) * scores).sum(-1).mean() - right

    low, high = (torch.tensor(1 / t, dtype=torch.float64).log() for t in (HOTTEST, COLDEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if slope(middle.exp()) < 0:
            low = middle
        else:
            high = middle
    return float((-(low + high) / 2).exp())
