"""The search space: which hyperparameters are tuned, and over which ranges or choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    PlainValidator,
    StrictBool,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from vlfew.core.config_file import Origins, explain, read_yaml
from vlfew.core.errors import ConfigError
from vlfew.core.overrides import written_value

Value = int | float | str
"""A number from a range, or a choice as it is written in an override."""


def text_of(value: Value) -> str:
    """What to write after `key=`."""
    return value if isinstance(value, str) else written_value(value)


FIXED = {
    "name": "each trial gets its own name",
    "repeat": "each trial is trained once",
    "evaluate": "trials are not evaluated",
    "model_selection": "trials are compared by it",
    "seed": "the best of several seeds is the luckiest, not a better setting",
    "training.eval_every": "the best of more validations is luckier, not better",
}
"""Keys that cannot be tuned, and why."""
BOUNDS = ("low", "high", "log", "step")
RESOLUTION = 1e-4
"""Numbers are rounded to this fraction of themselves (`log`) or of the range, to be readable."""
STEP_TOLERANCE = 1e-4
"""Fraction of a step by which float arithmetic may be off."""


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a number")
    return value


def _two_or_more(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise ValueError("must list at least two values")
    return tuple(value)


Number = Annotated[int | float, PlainValidator(_number)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Range:
    """Numbers from `low` to `high`; integers if both bounds are.

    Attributes:
        low, high: the bounds, both included.
        log: sample on a logarithmic scale.
        step: distance between neighboring numbers, starting at `low`.
    """

    low: Number
    high: Number
    log: StrictBool = False
    step: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be above 0 where log is true")
        if self.step is not None:
            if self.log:
                raise ValueError("log and step do not go together; give one of them")
            if not 0 < self.step <= (1 + STEP_TOLERANCE) * (self.high - self.low):
                raise ValueError(f"step {self.step:g} must be above 0 and fit between low and high")
            if self.integer and not isinstance(self.step, int):
                raise ValueError(
                    "step must be an integer like the bounds; or write the bounds with a decimal point"
                )
        return self

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def last(self) -> int | float:
        """The largest number: `high`, or the last step before it."""
        if self.step is None:
            return self.high
        return self.value(
            self.low + self.step * math.floor((self.high - self.low) / self.step + STEP_TOLERANCE)
        )

    def value(self, sampled: float) -> int | float:
        """A sampled number, rounded to the digits that matter."""
        if self.integer:
            return round(sampled)
        extent = sampled if self.log else self.high - self.low
        # In float arithmetic 0.1 + 2 x 0.1 is 0.30000000000000004.
        unit = RESOLUTION * extent if self.step is None else 1e-9 * self.step
        digits = math.floor(-math.log10(unit) + 1e-9)
        return min(max(round(float(sampled), digits), float(self.low)), float(self.high))

    def find(self, value: Any) -> int | float | None:
        """The value of a configuration if it lies in the range, otherwise None."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not self.low <= value <= self.last or (self.integer and value != round(value)):
            return None
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        if not math.isclose(steps, round(steps), abs_tol=STEP_TOLERANCE):
            return None
        return round(value) if self.integer else value

    def probes(self) -> list[int | float]:
        """Representative numbers: the bounds and, for fractions, one in between."""
        inner = [] if self.integer else [self.value(self.low + 0.382 * (self.high - self.low))]
        return [self.low, *inner, self.last] if self.step is None else [self.low, self.last]

    def __str__(self) -> str:
        bounds = f"{written_value(self.low)} to {written_value(self.last)}"
        by = "" if self.step is None else f" by {written_value(self.step)}"
        return f"{bounds}{by}{', logarithmic' if self.log else ''}{', integer' if self.integer else ''}"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Choices:
    """One of several values."""

    choices: Annotated[tuple[Any, ...], PlainValidator(_two_or_more)]

    @model_validator(mode="after")
    def _check(self) -> Choices:
        if len(set(self.texts)) < len(self.texts):
            raise ValueError("a value is repeated")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as they are written in overrides."""
        return tuple(map(written_value, self.choices))

    def value(self, sampled: str) -> str:
        return sampled

    def probes(self) -> list[str]:
        return list(self.texts)

    def __str__(self) -> str:
        return " or ".join(self.texts)


SearchSpace = dict[str, Range | Choices]
"""By dotted configuration key."""


def read_space(path: Path, check: Callable[[str], object], origins: Origins | None = None) -> SearchSpace:
    """Read a search space from YAML: each key with `{low:, high:}` (and `log: true` or `step:`), or `{choices: [...]}`.

    Args:
        path: YAML file.
        check: called with `key=value` for every bound and choice; raises a ConfigError if it is not valid.
        origins: gets the line of each key.

    Raises:
        ConfigError: one line per mistake.
    """
    origins = Origins() if origins is None else origins
    entries = {str(key): value for key, value in read_yaml(path, origins, kind="search space").items()}
    if not entries:
        raise ConfigError(
            f"{path}: names no key to tune; write, for example, optim.lr: {{low: 1e-4, high: 1e-2, log: true}}"
        )
    space: SearchSpace = {}
    problems: list[str] = []
    for key, entry in entries.items():
        at = origins.of(key)
        if why := FIXED.get(key.partition(".")[0]) or FIXED.get(key):
            problems.append(f"{at}: {key!r} cannot be tuned: {why}")
            continue
        if inner := next((other for other in entries if other.startswith(f"{key}.")), None):
            problems.append(
                f"{at}: {key!r} contains {inner!r} ({origins.of(inner)}) and would undo it; remove one"
            )
            continue
        if not isinstance(entry, dict):
            problems.append(f"{at}: {key!r} needs {{low:, high:}} or {{choices: [...]}}, got {entry!r}")
            continue
        if unclear := _neither_range_nor_choices(entry):
            problems.append(f"{at}: {key!r} has {unclear}")
            continue
        kind: type[Range | Choices] = Choices if "choices" in entry else Range
        try:
            space[key] = TypeAdapter(kind).validate_python(entry)
        except ValidationError as error:
            found = explain(error, key, origins, ["choices", *BOUNDS])
            # A misspelled key is the reason why another one is missing.
            problems += [problem for problem in found if "unknown key" in problem] or found
            continue
        for value in space[key].probes():
            problems += (
                f"{at}: {problem}" for problem in _override_problems(f"{key}={text_of(value)}", check)
            )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return space


def _neither_range_nor_choices(entry: dict[str, Any]) -> str:
    """What is missing or too much in an entry of known keys; empty where nothing is."""
    bounds = [name for name in BOUNDS if name in entry]
    missing = [name for name in ("low", "high") if name not in entry]
    if "choices" in entry:
        return f"choices and {bounds[0]}; give choices, or low and high" if bounds else ""
    if set(entry) <= set(BOUNDS) and missing:
        return f"no {' and no '.join(missing)}; give low and high, or choices"
    return ""


def _override_problems(override: str, check: Callable[[str], object]) -> Iterator[str]:
    try:
        check(override)
    except ConfigError as error:
        for problem in error.problems:
            # A problem of the override itself is a problem of the line in the search space.
            own = problem.removeprefix(f"override {override}: ").removeprefix(f"{override!r}: ")
            yield own if own != problem else f"with {override}: {problem}"
