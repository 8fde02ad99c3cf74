"""One result of several runs that differ in a single setting: the folds of a protocol, or seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlfew.evaluation.results import Result, mean_ci95

SUMMED = ("episodes", "pairs", "trials", "pictures")
"""Counts that add up where the runs are tested on different data."""
OWN = ("per_episode", "mistakes", "threshold", "fold_accuracies")
"""What belongs to a single run."""


def merge_results(results: Sequence[Result], key: str) -> Result:
    """The mean over runs, with the interval over runs (Student's t).

    Fractions that a protocol adds (`auc`, `top5` ...) are averaged, curves too, with a band of one
    standard error; what differs otherwise is left out.

    Args:
        results: of one protocol with the same options, one a run, at least two.
        key: the setting in which the runs differ (`data.fold`, `seed`).
    """
    accuracies = [r.accuracy for r in results]
    accuracy, ci95 = mean_ci95(accuracies)
    apart = len({r.data_fingerprint for r in results}) > 1
    told = [r.model_dump() for r in results]
    merged: dict[str, Any] = {}
    for name, first in told[0].items():
        values: list[Any] = [one.get(name) for one in told]
        if name in OWN:
            continue
        if name in SUMMED and apart and all(isinstance(v, int) for v in values):
            merged[name] = sum(values)
        elif all(v == first for v in values):
            merged[name] = first
        elif all(isinstance(v, float) for v in values):
            merged[name] = math.fsum(values) / len(values)
        elif name == "cmc":
            short = min(len(v) for v in values)
            merged[name] = np.mean([v[:short] for v in values], axis=0).tolist()
        elif name == "roc":
            merged[name] = _band([v["far"] for v in values], [v["tar"] for v in values])
    notes = [note.split("; ") for note in (one["note"] for one in told)]
    merged |= {
        "accuracy": accuracy,
        "ci95": ci95,
        "standard_error": float(np.std(accuracies, ddof=1) / math.sqrt(len(accuracies))),
        "accuracies": accuracies,
        "repeats": len(results),
        "over": key,
        "interval": f"over {len(results)} runs ({key})",
        "note": "; ".join(part for part in notes[0] if all(part in other for other in notes)),
        "command": results[0].command,
    }
    if apart:
        merged["data_fingerprint"] = " ".join(r.data_fingerprint for r in results)
    # What is not a fraction of anything but differs (a count of pictures) takes that of the first run.
    required = {name: told[0][name] for name in Result.model_fields}
    return Result(**(required | merged))


def _band(far: list[list[float]], tar: list[list[float]]) -> dict[str, list[float]]:
    curves = np.array(tar)
    mean, error = curves.mean(axis=0), curves.std(axis=0, ddof=1) / math.sqrt(len(curves))
    return {
        "far": far[0],
        "tar": mean.tolist(),
        "low": (mean - error).clip(0).tolist(),
        "high": (mean + error).clip(max=1).tolist(),
    }
