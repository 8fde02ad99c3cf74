"""A result: a protocol plus a number. What a figure is worth nothing without stands beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vlfew.core.errors import RunError
from vlfew.core.files import write_atomic
from vlfew.core.interval import interval_unit

_AGAIN = "remove it and give the training command again, which then only evaluates"


class Result(BaseModel):
    """One line of `results.json`.

    Attributes:
        protocol: its name on the command line ("few-shot").
        data: name of the data source; `data_fingerprint` says which images exactly.
        split: evaluated split.
        accuracy: a fraction.
        ci95: half width of the 95% interval of `accuracy`, a fraction.
        episodes: how many episodes (or trials) the interval stands on.
        seed: of the episodes.
        input_size: `[C, H, W]` that the image stream saw.
        outside_data: whether weights learned from images outside the training split were used.
        command: that makes the number again.
        asked: every option of the protocol, as it was given or by default.
        protocol_class: where a data set has a convention for it: `unrestricted` (LFW: the names of the
            training people were used), `image-restricted` or `outside data`; else "".
        note: what a reader must know (alignment dropped, part of the data at hand), else "".

    What a protocol adds (`ways, shots, queries, top5, ...`) is kept as further fields.
    """

    model_config = ConfigDict(extra="allow")

    protocol: str
    data: str
    split: str
    accuracy: float
    ci95: float
    episodes: int
    seed: int
    input_size: list[int]
    outside_data: bool
    command: str
    asked: dict[str, Any] = {}
    protocol_class: str = ""
    data_fingerprint: str = ""
    trained_on: str = ""
    skipped_images: int = 0
    note: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """A field the protocol added."""
        return (self.model_extra or {}).get(key, default)

    @property
    def interval_unit(self) -> str:
        """What the interval is over: `1,000 episodes`, `10 folds`."""
        return interval_unit({"episodes": self.episodes} | (self.model_extra or {}))


_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5% points of Student's t for 1 to 30 degrees of freedom."""


def mean_ci95(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95% interval, in float64; 0 for a single value.

    Standard errors with ddof 1, times Student's t up to 31 values (three seeds, ten folds), then 1.96.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, 0.0
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, student(n - 1) * math.sqrt(variance / n)


def student(freedom: int) -> float:
    """97.5% point of Student's t; 1.96 beyond 30 degrees of freedom, and for none, where there is no error."""
    return _T975[freedom - 1] if 1 <= freedom <= len(_T975) else 1.96


def cluster_ci95(right: Sequence[float], total: Sequence[float]) -> float:
    """Half width of the 95% interval of `sum(right) / sum(total)` when answers come in clusters.

    Answers of one cluster (images of a class) are not independent of each other; clusters are. The
    linearized variance of a ratio (Cochran 1977, equation 6.13), `C/(C-1) sum (r_c - p n_c)^2 / n^2`, and
    Student's t as for `mean_ci95`; 0 for a single cluster.

    Args:
        right: `[C]` right answers in each cluster.
        total: `[C]` answers in each cluster.
    """
    return student(len(total) - 1) * cluster_error(right, total)


def cluster_error(right: Sequence[float], total: Sequence[float]) -> float:
    """The standard error that `cluster_ci95` stands on; of clusters of one size, that of their mean."""
    clusters, answers = len(total), math.fsum(total)
    if clusters == 1:
        return 0.0
    p = math.fsum(right) / answers
    squares = math.fsum((r - p * n) ** 2 for r, n in zip(right, total, strict=True))
    return math.sqrt(clusters / (clusters - 1) * squares) / answers


def write_results(path: Path, results: Sequence[Result]) -> None:
    """All results as a JSON list; the file appears whole or not at all."""
    write_atomic(path, json.dumps([r.model_dump() for r in results], indent=2) + "\n")


def read_results(path: Path) -> list[Result]:
    """What `write_results` wrote.

    Raises:
        RunError: the file is damaged, or of a form that this version does not read; says the way out.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise ValueError("it is no list of results")
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {error}; {_AGAIN}") from None
    results = []
    for number, entry in enumerate(entries, 1):
        try:
            results.append(Result.model_validate(entry))
        except ValidationError as error:
            names = ", ".join(sorted({str(e["loc"][0]) if e["loc"] else "all" for e in error.errors()}))
            raise RunError(f"{path}: result {number} lacks or mistakes {names}; {_AGAIN}") from None
    return results
