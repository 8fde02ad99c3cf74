"""A result: an accuracy, its interval, and everything needed to compare and to repeat it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlfew.core.checks import to_list
from vlfew.core.errors import DataError, RunError, describe_value
from vlfew.core.files import write_atomic
from vlfew.core.outside_data import OutsideData
from vlfew.core.upgrade import upgrade_result

if TYPE_CHECKING:
    import pandas as pd

_WAY_OUT = "remove it and repeat the training command, which then only evaluates"


class Result(BaseModel):
    """One entry of `results.json`.

    Attributes:
        protocol: its name on the command line ("few-shot").
        data: name of the data source; `data_fingerprint` identifies the exact images.
        split: evaluated split.
        accuracy: a fraction.
        ci95: half width of the 95% interval of `accuracy`, a fraction; None (JSON null) where a single episode,
            class, fold or run gives none.
        episodes: number of episodes (or classes, trials, pairs ...) that the interval is over.
        seed: of the episodes.
        input_size: `[C, H, W]` of the images that the encoder received.
        outside_data: the images outside the training split that the weights were trained on, by name (`ImageNet-1k`);
            `not known` where no name is known, "" where there are none.
        outside_data_overlap: what is known of their overlap with the evaluated split (`contains the test images`, or
            which classes have the name of a class of theirs); "" where nothing is.
        command: that repeats the evaluation.
        options: every option of the protocol, given or by default.
        protocol_class: where a data set has a convention for it: `unrestricted` (LFW: the names of the
            training people were used), `image-restricted` or `outside data`; else "".
        data_fingerprint: hash of the evaluated data.
        trained_on: `data/split` of the training.
        skipped_images: unreadable images that were left out.
        per_episode: file with the accuracy of each episode, relative to the run folder; "" where there is none.
        note: what a reader must know (alignment dropped, only part of the data), else "".

    What a protocol adds (`ways, shots, queries, top5, ...`) is stored as further fields.
    """

    model_config = ConfigDict(extra="allow")

    protocol: str
    data: str
    split: str
    accuracy: float
    ci95: float | None
    episodes: int
    seed: int
    input_size: list[int]
    outside_data: OutsideData
    command: str
    options: dict[str, Any] = Field({}, validation_alias=AliasChoices("options", "asked"))  # until 0.1
    outside_data_overlap: str = ""
    protocol_class: str = ""
    data_fingerprint: str = ""
    trained_on: str = ""
    skipped_images: int = 0
    per_episode: str = ""
    note: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """A field that the protocol added."""
        return (self.model_extra or {}).get(key, default)

    @model_validator(mode="after")
    def _no_interval_of_one(self) -> Self:
        """Until 0.1, a single episode had an interval of no width."""
        if self.ci95 == 0 and self._interval_count == 1:
            self.ci95 = None
        return self

    @property
    def _interval_count(self) -> int:
        return self.get("repeats") or len(self.get("fold_accuracies", ())) or self.episodes

    @property
    def interval_unit(self) -> str:
        """What the interval is over: `1,000 episodes`, `884 classes`, `10 folds` or `3 runs`; or `one episode`."""
        unit = self.get("interval", "over episodes").removeprefix("over ").partition(",")[0]
        if self.get("repeats"):
            unit = "runs"
        if self._interval_count == 1:
            return f"one {'class' if unit == 'classes' else unit.removesuffix('s')}"
        return f"{self._interval_count:,} {unit}"

    def to_frame(self) -> pd.DataFrame:
        """The result as a table of one row; see `results_frame`."""
        return results_frame([self])


def results_frame(results: Sequence[Result]) -> pd.DataFrame:
    """Results as a pandas table, one row each: single numbers and texts, no curves, lists or mappings."""
    import pandas as pd

    if wrong := [r for r in to_list(results, "results") if not isinstance(r, Result)]:
        raise DataError(f"expected results, such as vlfew.evaluate gives, got {describe_value(wrong[0])}")
    rows = [r.model_dump() | {"interval_over": r.interval_unit} for r in results]
    return pd.DataFrame([{k: v for k, v in row.items() if not isinstance(v, dict | list)} for row in rows])


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """`results_frame` as a CSV file; the file appears complete or not at all."""
    buffer = io.StringIO()
    results_frame(results).to_csv(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def write_results(path: Path, results: Sequence[Result]) -> None:
    """All results as a JSON list; the file appears complete or not at all."""
    entries = [r.model_dump() | {"interval_unit": r.interval_unit} for r in results]
    write_atomic(path, json.dumps(entries, indent=2) + "\n")


def read_results(path: Path) -> list[Result]:
    """The results that `write_results` wrote.

    Raises:
        RunError: the file is damaged, or of a format that this version does not read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise ValueError("it is not a list of results")
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {error}; {_WAY_OUT}") from None
    results = []
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, dict):
            entry = upgrade_result(entry)
            entry.pop("interval_unit", None)  # for other readers; made of other fields
        try:
            results.append(Result.model_validate(entry))
        except ValidationError as error:
            names = ", ".join(sorted({str(e["loc"][0]) if e["loc"] else "all" for e in error.errors()}))
            raise RunError(
                f"{path}: result {number} has missing or wrong fields: {names}; {_WAY_OUT}"
            ) from None
    return results
