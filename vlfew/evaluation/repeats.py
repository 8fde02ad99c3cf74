"""One result from several runs that differ in a single setting: the folds of a protocol, or seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlfew.evaluation.results import Result
from vlfew.evaluation.statistics import mean_ci95, mean_curve, standard_error

SUMMED = ("episodes", "pairs", "trials", "images")
"""Counts that add up where the runs are tested on different data."""
NOT_MERGED = ("per_episode", "mistakes", "threshold", "fold_accuracies")
"""Fields that belong to a single run."""


def merge_results(results: Sequence[Result], key: str, values: Sequence[Any]) -> Result:
    """The mean over runs, with the interval over runs (Student's t).

    What a protocol adds is averaged where it differs: fractions (`auc`, `top5` ...), curves, which get a
    band of one standard error, and counts (unknown people), which are rounded.

    Args:
        results: of one protocol with the same options, one per run, at least two.
        key: the setting in which the runs differ (`data.fold`, `seed`).
        values: of that setting, one per run.
    """
    accuracies = [r.accuracy for r in results]
    accuracy, ci95 = mean_ci95(accuracies)
    fingerprints = [r.data_fingerprint for r in results]
    different_data = len(set(fingerprints)) > 1
    fields = [r.model_dump() for r in results]
    merged = {
        name: value
        for name in fields[0]
        if name not in NOT_MERGED
        and (value := _merge_field(name, [f.get(name) for f in fields], different_data)) is not None
    }
    merged |= {
        "accuracy": accuracy,
        "ci95": ci95,
        "standard_error": standard_error(accuracies),
        "accuracies": accuracies,
        "repeats": len(results),
        "over": key,
        "values": list(values),
        "interval": f"over {len(results)} runs ({key})",
        "note": _merge_notes(fields),
        "command": results[0].command,
        "per_episode": "",
    }
    if different_data:
        merged["data_fingerprint"] = " ".join(fingerprints)
    required = {name: fields[0][name] for name in Result.model_fields}
    return Result(**(required | merged))


def _merge_field(name: str, values: list[Any], different_data: bool) -> Any:
    """One value for the values of a field in all runs; None where they cannot be merged."""
    first, count = values[0], len(values)
    if name in SUMMED and different_data and all(isinstance(v, int) for v in values):
        return sum(values)
    if all(v == first for v in values):
        return first
    if all(type(v) is int for v in values):
        return round(math.fsum(values) / count)
    if all(isinstance(v, int | float) for v in values):
        return math.fsum(values) / count
    if name == "outside_data_overlap":
        return ""
    if name == "cmc":
        shortest = min(map(len, values))
        return np.mean([v[:shortest] for v in values], axis=0).tolist()
    if name == "roc":
        return mean_curve(np.array([v["tar"] for v in values]), np.array(first["far"]))
    if name == "dir" and all(values):
        return {"fpir": first["fpir"], "dir": np.mean([v["dir"] for v in values], axis=0).tolist()}
    return None


def _merge_notes(fields: Sequence[dict[str, Any]]) -> str:
    """Every note of any run; with the number of runs that have it, where not all do."""
    counts = Counter(part for f in fields for part in dict.fromkeys(filter(None, f["note"].split("; "))))
    runs = len(fields)
    return "; ".join(note if n == runs else f"{note} ({n} of {runs} runs)" for note, n in counts.items())
