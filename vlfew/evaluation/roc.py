"""What scores of same and different pairs are worth: thresholds and error rates, in float64.

Everywhere a pair is called the same when its score is at least the threshold. FAR is the share of
different pairs called the same, TAR the share of same pairs called the same.
"""

from __future__ import annotations

import numpy as np

from vlfew.core.errors import DataError

FAR_GRID = np.logspace(-3, 0, 61)
"""False-accept (and false-positive identification) rates at which curves are drawn."""


def operating_points(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All that thresholds among the scores can give.

    Args:
        scores: `[M]`, higher is more alike.
        same: `[M]` bool, with both values.

    Returns:
        Thresholds `[T]` from infinity down through the distinct scores, FAR `[T]` and TAR `[T]`.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # Equal scores fall on the same side of any threshold: only the last of them is a point.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    accepted = np.cumsum(same[order])[last]
    tar = np.concatenate([[0.0], accepted / same.sum()])
    far = np.concatenate([[0.0], (last + 1 - accepted) / (~same).sum()])
    return np.concatenate([[np.inf], ranked[last]]), far, tar


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The score that, as a threshold, gets most pairs right; the middle one of several."""
    # The first point, infinity, is none of the scores.
    thresholds, far, tar = (values[1:] for values in operating_points(scores, same))
    positives = np.asarray(same, bool).sum()
    negatives = len(same) - positives
    right = np.rint(tar * positives) + np.rint((1 - far) * negatives)
    best = np.flatnonzero(right == right.max())
    return float(thresholds[best[len(best) // 2]])


def area_under(scores: np.ndarray, same: np.ndarray) -> float:
    """Area under the ROC: the chance that a same pair scores above a different one, ties half."""
    _, far, tar = operating_points(scores, same)
    return float(np.trapezoid(tar, far))


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
    """The highest TAR whose FAR is no more than asked, `[len(far)]`."""
    _, reached, tar = operating_points(scores, same)
    return np.asarray(tar[np.searchsorted(reached, np.asarray(far) + 1e-12, side="right") - 1])


def false_accept_threshold(negatives: np.ndarray, target: float) -> float:
    """The lowest threshold that accepts no more than `floor(target * n)` of n different pairs.

    Args:
        negatives: `[n]` scores of different pairs, not those that are tested.
        target: FAR, for example 0.01.

    Raises:
        DataError: fewer than `1 / target` different pairs, from which no such rate can be told.
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


def band(curves: np.ndarray, far: np.ndarray = FAR_GRID) -> dict[str, list[float]]:
    """A curve for people to see: TAR at `far`, the mean over folds and one standard error about it.

    Args:
        curves: `[folds, len(far)]`.
        far: `[len(far)]`.
    """
    mean = curves.mean(axis=0)
    told = {"far": far.tolist(), "tar": mean.tolist()}
    if len(curves) > 1:
        error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
        told |= {"low": (mean - error).clip(0).tolist(), "high": (mean + error).clip(max=1).tolist()}
    return told
