"""The temperature that turns logits into probabilities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

LOWEST, HIGHEST = 1e-3, 1e3


def fit_temperature(logits: Tensor, class_id: Tensor) -> float:
    """The temperature T of `softmax(logits / T)` with the least cross entropy (Guo et al. 2017, section 4.2).

    Targets are smoothed as in Platt's scaling: of M images, the right class has (M + 1) / (M + 2) and the others share
    the rest. Without that, a few images that are all classified correctly would give probabilities of 1.

    Args:
        logits: `[M, N]` of images that the classifier was not fitted on.
        class_id: `[M]`, their classes.
    """
    scores = logits.double().numpy()
    count, classes = scores.shape
    target = np.full_like(scores, 1 / (count + 2) / max(classes - 1, 1))
    target[np.arange(count), class_id.numpy()] = (count + 1) / (count + 2)

    def loss(log_temperature: float) -> float:
        return float(-(target * log_softmax(scores / np.exp(log_temperature), axis=1)).sum())

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
