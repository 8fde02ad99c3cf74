"""One result of several runs that differ in a single setting: the folds of a protocol, or seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlfew.evaluation.results import Result, mean_ci95, student
from vlfew.evaluation.roc import band

SUMMED = ("episodes", "pairs", "trials", "images")
"""Counts that add up where the runs are tested on different data."""
OWN = ("per_episode", "mistakes", "threshold", "fold_accuracies")
"""What belongs to a single run."""


def merge_results(results: Sequence[Result], key: str, values: Sequence[Any]) -> Result:
    """The mean over runs, with the interval over runs (Student's t).

    What a protocol adds is averaged where it differs: fractions (`auc`, `top5` ...), curves, which get a
    band of one standard error, and counts (people who are unknown), which are rounded.

    Args:
        results: of one protocol with the same options, one a run, at least two.
        key: the setting in which the runs differ (`data.fold`, `seed`).
        values: of that setting, one a run.
    """
    accuracies = [r.accuracy for r in results]
    accuracy, ci95 = mean_ci95(accuracies)
    apart = len({r.data_fingerprint for r in results}) > 1
    told = [r.model_dump() for r in results]
    merged: dict[str, Any] = {}
    for name, first in told[0].items():
        found: list[Any] = [one.get(name) for one in told]
        if name in OWN:
            continue
        if name in SUMMED and apart and all(isinstance(v, int) for v in found):
            merged[name] = sum(found)
        elif all(v == first for v in found):
            merged[name] = first
        elif all(type(v) is int for v in found):
            merged[name] = round(math.fsum(found) / len(found))
        elif all(isinstance(v, int | float) for v in found):
            merged[name] = math.fsum(found) / len(found)
        elif name == "cmc":
            short = min(len(v) for v in found)
            merged[name] = np.mean([v[:short] for v in found], axis=0).tolist()
        elif name == "roc":
            merged[name] = band(np.array([v["tar"] for v in found]), np.array(first["far"]))
        elif name == "dir" and all(found):
            merged[name] = {"fpir": first["fpir"], "dir": np.mean([v["dir"] for v in found], axis=0).tolist()}
    merged |= {
        "accuracy": accuracy,
        "ci95": ci95,
        "standard_error": ci95 / student(len(results) - 1),
        "accuracies": accuracies,
        "repeats": len(results),
        "over": key,
        "values": list(values),
        "interval": f"over {len(results)} runs ({key})",
        "note": _notes(told),
        "command": results[0].command,
    }
    if apart:
        merged["data_fingerprint"] = " ".join(r.data_fingerprint for r in results)
    required = {name: told[0][name] for name in Result.model_fields}
    return Result(**(required | merged))


def _notes(told: Sequence[dict[str, Any]]) -> str:
    """Every note of any run; those that not all have say how many do."""
    counts = Counter(part for one in told for part in dict.fromkeys(filter(None, one["note"].split("; "))))
    runs = len(told)
    return "; ".join(note if n == runs else f"{note} ({n} of {runs} runs)" for note, n in counts.items())
