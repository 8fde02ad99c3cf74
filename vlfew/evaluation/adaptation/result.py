"""The result of comparing few-shot methods: accuracy by method and number of shots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlfew.core.files import write_atomic
from vlfew.evaluation.statistics import mean_ci95

if TYPE_CHECKING:
    import pandas as pd

TuneOn = Literal["val-classes", "held-out-images", "none"]


@dataclass(frozen=True)
class Estimate:
    """A value for each repeat.

    Attributes:
        mean: over repeats.
        ci95: half width of its 95% interval, by Student's t over repeats; None for a single repeat.
        values: one per repeat.
    """

    mean: float
    ci95: float | None
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        return cls(*mean_ci95(values), list(values))


@dataclass(frozen=True)
class MethodResult:
    """A method with a number of shots.

    Attributes:
        method: its name.
        shots: support images per class.
        accuracy: on the queries; of the base classes, where there are new ones.
        new: accuracy on the new classes; None without new classes, or where the method needs images of them.
        harmonic: harmonic mean of both.
        ece: expected calibration error of the softmax of the logits.
        ece_scaled: the same after temperature scaling; None where nothing is tuned.
        temperatures: one per repeat, by which logits were divided for that.
        options: all options of the method, one mapping per repeat.
        seconds: to fit and to score all queries, mean over repeats.
        tuning_seconds: to tune the options, in total.
    """

    method: str
    shots: int
    accuracy: Estimate
    new: Estimate | None
    harmonic: Estimate | None
    ece: Estimate
    ece_scaled: Estimate | None
    temperatures: list[float]
    options: list[dict[str, Any]]
    seconds: float
    tuning_seconds: float


@dataclass(frozen=True)
class AdaptationResult:
    """A comparison of few-shot methods, and everything needed to interpret and to repeat it.

    Attributes:
        data: name of the data source.
        data_fingerprint: identifies the exact images.
        split: the split whose classes are evaluated.
        support_split: the split that the support comes from.
        input_size: `[C, H, W]` of the images that the encoder received.
        classes: number of classes; where there are new ones, base and new together.
        queries: number of query images, one per repeat.
        shots: ascending.
        repeats: number of random draws, the same for all methods.
        tune_on: `val-classes`, the classes of the validation split; `held-out-images`, further images of the
            evaluated classes; `none`, nothing is tuned.
        tuning: the same in words.
        base_to_new: whether methods get images of half of the classes alone.
        templates: prompts of the class names.
        descriptions: file with texts used instead of prompts, or "".
        methods: names, in order.
        skipped_methods: methods that need text, where there is none.
        notes: what a reader must know.
        cells: method by method, shots ascending.
        interval: what intervals are over.
        seconds: of the comparison.
        model: name of the model.
        command: that repeats the comparison.
        trained_on: `data/split` of the training.
        outside_data, outside_data_overlap: as in `vlfew.evaluation.results.Result`.
    """

    data: str
    data_fingerprint: str
    split: str
    support_split: str
    input_size: list[int]
    classes: int
    queries: list[int]
    shots: list[int]
    repeats: int
    tune_on: TuneOn
    tuning: str
    base_to_new: bool
    templates: list[str]
    descriptions: str
    methods: list[str]
    skipped_methods: list[str]
    notes: list[str]
    cells: list[MethodResult]
    interval: str = "over repeats"
    seconds: float = 0.0
    model: str = ""
    command: str = ""
    trained_on: str = ""
    outside_data: str = ""
    outside_data_overlap: str = ""

    def cell(self, method: str, shots: int) -> MethodResult:
        """The result of a method with a number of shots."""
        return next(c for c in self.cells if (c.method, c.shots) == (method, shots))

    @property
    def chance(self) -> float:
        """Accuracy of guessing; of the base classes, where there are new ones."""
        return 1 / (-(-self.classes // 2) if self.base_to_new else self.classes)

    def to_frame(self) -> pd.DataFrame:
        """A pandas table with one row per method and number of shots; `*_ci95` are half widths of 95% intervals."""
        import pandas as pd

        rows = []
        for cell in self.cells:
            row: dict[str, Any] = {"method": cell.method, "shots": cell.shots}
            for name in ("accuracy", "new", "harmonic", "ece", "ece_scaled"):
                if (estimate := getattr(cell, name)) is not None:
                    row |= {name: estimate.mean, f"{name}_ci95": estimate.ci95}
            rows.append(row | {"seconds": cell.seconds})
        return pd.DataFrame(rows)

    def save(self, path: Path) -> None:
        """Writes a JSON file, which appears complete or not at all."""
        write_atomic(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
