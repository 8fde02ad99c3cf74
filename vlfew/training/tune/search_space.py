"""The search space: which hyperparameters are tuned, and over which ranges or choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlfew.core.config_file import Origins, override_text, read_yaml
from vlfew.core.errors import ConfigError, did_you_mean

Value = int | float | str
"""A number from a range, or a choice as it is written in an override."""


def text_of(value: Value) -> str:
    """What to write after `key=`."""
    return value if isinstance(value, str) else override_text(value)


BOUNDS = ("low", "high", "log", "step")
FIXED = {
    "name": "each trial gets its own name",
    "repeat": "each trial is trained once",
    "evaluate": "trials are not evaluated",
    "model_selection": "trials are compared by it",
    "seed": "the best of several seeds is the luckiest, not a better setting",
    "training.eval_every": "the best of more validations is luckier, not better",
}
"""Keys that cannot be tuned, and why."""
RESOLUTION = 1e-4
"""Numbers are rounded to this fraction of themselves (`log`) or of the range, to be readable."""
STEP_TOLERANCE = 1e-4
"""Fraction of a step by which float arithmetic may be off."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; integers if both bounds are.

    Attributes:
        low, high: the bounds, both included.
        log: sample on a logarithmic scale.
        step: distance between neighboring numbers, starting at `low`.
        where: file and line.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None
    where: str = field(default="", compare=False)

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
        bounds = f"{override_text(self.low)} to {override_text(self.last)}"
        by = "" if self.step is None else f" by {override_text(self.step)}"
        return f"{bounds}{by}{', logarithmic' if self.log else ''}{', integer' if self.integer else ''}"


@dataclass(frozen=True)
class Choices:
    """One of several values.

    Attributes:
        texts: the values as they are written in overrides.
        where: file and line.
    """

    texts: tuple[str, ...]
    where: str = field(default="", compare=False)

    def value(self, sampled: str) -> str:
        return sampled

    def probes(self) -> list[str]:
        return list(self.texts)

    def __str__(self) -> str:
        return " or ".join(self.texts)


SearchSpace = dict[str, Range | Choices]
"""By dotted configuration key."""


def read_space(path: Path, check: Callable[[str], object]) -> SearchSpace:
    """Read a search space from YAML: each key with `{low:, high:}` (and `log: true` or `step:`), or `{choices: [...]}`.

    Args:
        path: YAML file.
        check: called with `key=value` for every bound and choice; raises a ConfigError if it is not valid.

    Raises:
        ConfigError: one line per mistake.
    """
    origins = Origins()
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
        dimension = _read_dimension(key, entry, origins)
        if isinstance(dimension, list):
            problems += dimension
            continue
        space[key] = dimension
        for value in dimension.probes():
            problems += (
                f"{at}: {problem}" for problem in _override_problems(f"{key}={text_of(value)}", check)
            )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return space


def _override_problems(override: str, check: Callable[[str], object]) -> Iterator[str]:
    try:
        check(override)
    except ConfigError as error:
        for problem in error.problems:
            # A problem of the override itself is a problem of the line in the search space.
            own = problem.removeprefix(f"override {override}: ").removeprefix(f"{override!r}: ")
            yield own if own != problem else f"with {override}: {problem}"


def _read_dimension(key: str, entry: Any, origins: Origins) -> Range | Choices | list[str]:
    """The range or the choices, or the problems with them."""
    at = origins.of(key)
    if not isinstance(entry, dict):
        return [f"{at}: {key!r} needs {{low:, high:}} or {{choices: [...]}}, got {entry!r}"]
    known = ("choices", *BOUNDS)
    odd = [str(name) for name in entry if name not in known]
    if odd:
        return [
            f"{origins.of(f'{key}.{name}')}: unknown key '{key}.{name}'{did_you_mean(name, known)}"
            for name in odd
        ]
    both = [name for name in BOUNDS if name in entry]
    if "choices" in entry:
        if both:
            return [f"{at}: {key!r} has choices and {both[0]}; give choices, or low and high"]
        return _read_choices(key, entry["choices"], origins)
    missing = [name for name in ("low", "high") if name not in entry]
    if missing:
        return [f"{at}: {key!r} has no {' and no '.join(missing)}; give low and high, or choices"]
    return _read_range(key, entry, origins)


def _read_choices(key: str, values: Any, origins: Origins) -> Choices | list[str]:
    at = origins.of(f"{key}.choices")
    texts = tuple(map(override_text, values)) if isinstance(values, list) else ()
    if len(texts) < 2:
        return [f"{at}: '{key}.choices' must list at least two values, got {values!r}"]
    if len(set(texts)) < len(texts):
        return [f"{at}: '{key}.choices' repeats a value"]
    return Choices(texts, origins.of(key))


def _read_range(key: str, entry: dict[str, Any], origins: Origins) -> Range | list[str]:
    numbers = {name: entry[name] for name in ("low", "high", "step") if name in entry}
    problems = [
        f"{origins.of(f'{key}.{name}')}: '{key}.{name}' must be a number, got {value!r}"
        for name, value in numbers.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ]
    log, step = entry.get("log", False), numbers.get("step")
    if not isinstance(log, bool):
        problems.append(f"{origins.of(f'{key}.log')}: '{key}.log' must be true or false, got {log!r}")
    if problems:
        return problems
    low, high, at = numbers["low"], numbers["high"], origins.of(key)
    if low >= high:
        problems.append(f"{at}: {key!r} has low {low:g}, which must be below high {high:g}")
    if log and low <= 0:
        problems.append(f"{origins.of(f'{key}.log')}: {key!r} is logarithmic, so low {low:g} must be above 0")
    if step is not None:
        where = origins.of(f"{key}.step")
        if log:
            problems.append(f"{where}: {key!r} has log and step; give one of them")
        if not 0 < step <= max(high - low, 0):
            problems.append(
                f"{where}: '{key}.step' must be above 0 and fit between low and high, got {step:g}"
            )
        if isinstance(low, int) and isinstance(high, int) and not isinstance(step, int):
            problems.append(
                f"{where}: '{key}.step' must be an integer like the bounds; or write the bounds with a decimal point"
            )
    return problems or Range(low, high, log, step, at)
