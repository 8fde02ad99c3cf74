"""Thresholds and error rates of verification scores, in float64.

A pair is accepted as the same class when its score is at least the threshold. FAR is the share of different pairs that
are accepted, TAR the share of same pairs that are. The operating points and the area are scikit-learn's; it has no
best threshold, equal error rate, or rate at a given FAR, and its `det_curve` leaves out points that these need.
"""

from __future__ import annotations

import numpy as np

from vlfew.core.errors import DataError
from vlfew.evaluation.statistics import FAR_GRID


def operating_points(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All error rates that thresholds among the scores can give.

    Args:
        scores: `[M]`, higher is more similar.
        same: `[M]` bool, with both values.

    Returns:
        Thresholds `[T]` from infinity down through the distinct scores, FAR `[T]` and TAR `[T]`.
    """
    from sklearn.metrics import roc_curve  # loads pandas

    # Every point is needed: the best threshold may lie between two corners of the curve.
    far, tar, thresholds = roc_curve(same, np.asarray(scores, np.float64), drop_intermediate=False)
    return thresholds, far, tar


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The score that, as a threshold, classifies most pairs correctly; the middle one of several."""
    # The first point, infinity, is not one of the scores.
    thresholds, far, tar = (values[1:] for values in operating_points(scores, same))
    positives = np.asarray(same, bool).sum()
    negatives = len(same) - positives
    correct = np.rint(tar * positives) + np.rint((1 - far) * negatives)
    best = np.flatnonzero(correct == correct.max())
    return float(thresholds[best[len(best) // 2]])


def area_under(scores: np.ndarray, same: np.ndarray) -> float:
    """Area under the ROC: the probability that a same pair scores above a different one, ties half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same, np.asarray(scores, np.float64)))


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Where FAR equals 1 - TAR, on straight lines between the operating points."""
    _, far, tar = operating_points(scores, same)
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    if gap[after] == 0:
        return float(far[after])
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(far[after - 1] + share * (far[after] - far[after - 1]))


def tar_curve(scores: np.ndarray, same: np.ndarray, far: np.ndarray = FAR_GRID) -> np.ndarray:
    """The highest TAR whose FAR is at most `far`, `[len(far)]`."""
    _, reached, tar = operating_points(scores, same)
    return np.asarray(tar[np.searchsorted(reached, np.asarray(far) + 1e-12, side="right") - 1])


def false_accept_threshold(negatives: np.ndarray, target: float) -> float:
    """The lowest threshold that accepts at most `floor(target * n)` of n different pairs.

    Args:
        negatives: `[n]` scores of different pairs, not those that are tested.
        target: FAR, for example 0.01.

    Raises:
        DataError: fewer than `1 / target` different pairs, too few to measure such a rate.
    """
    n = len(negatives)
    # Through integers: 0.001 * 3000 is a little less than 3.
    allowed = int(np.floor(target * n + 1e-9))
    if allowed < 1:
        raise DataError(
            f"a false-accept rate of {target:g} cannot be set by {n:,} different pairs; "
            f"{int(np.ceil(1 / target - 1e-9)):,} are needed"
        )
    ranked = np.sort(np.asarray(negatives, np.float64))[::-1]
    if allowed == n:
        return float(ranked[-1])
    # Just above the first that must not be accepted; ties with it must not be either.
    return float(np.nextafter(ranked[allowed], np.inf))
