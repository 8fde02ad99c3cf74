"""The space of a search: which settings are tried, and between which bounds or among which values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlfew.core.config_file import Source, override_text, read_yaml
from vlfew.core.errors import ConfigError, did_you_mean
from vlfew.workflows.assemble import read_config

Value = int | float | str
"""A number of a range, or a choice as an override has it."""


def text_of(value: Value) -> str:
    """What to write behind `key=`."""
    return value if isinstance(value, str) else override_text(value)


BOUNDS = ("low", "high", "log", "step")
FIXED = {
    "name": "every trial has a name of its own",
    "repeat": "every trial is trained once",
    "evaluate": "trials are not evaluated",
    "model_selection": "trials are compared by it",
    "seed": "the best of some seeds is the luckiest one, not a better setting",
    "training.eval_every": "the best of more validations is luckier, not better",
}
"""Settings that a search leaves alone, and why."""
FINENESS = 1e-4
"""Numbers are tried to this part of themselves (`log`), or of the range, so that they can be read."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: whole ones, where the bounds are.

    Attributes:
        low, high: the bounds, both within.
        log: whether equal ratios are equally likely, rather than equal distances.
        step: numbers are so far apart, from `low` on.
        where: file and line.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None
    where: str = field(default="", compare=False)

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def last(self) -> int | float:
        """The largest number: `high`, or the last step before it."""
        if self.step is None:
            return self.high
        return self.value(self.low + self.step * math.floor((self.high - self.low) / self.step + 1e-9))

    def value(self, drawn: float) -> int | float:
        """A drawn number as it is tried, with no more digits than matter."""
        if self.whole:
            return round(drawn)
        extent = drawn if self.log else self.high - self.low
        # In float arithmetic 0.1 + 2 x 0.1 is 0.30000000000000004.
        unit = FINENESS * extent if self.step is None else 1e-9 * self.step
        digits = math.floor(-math.log10(unit) + 1e-9)
        return min(max(round(float(drawn), digits), float(self.low)), float(self.high))

    def find(self, value: Any) -> int | float | None:
        """A configuration's value, where it is in the range; else None."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not self.low <= value <= self.last or (self.whole and value != round(value)):
            return None
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        if not math.isclose(steps, round(steps), abs_tol=1e-6):
            return None
        return round(value) if self.whole else value

    def probes(self) -> list[int | float]:
        """Numbers that stand for all: the bounds and, where there are fractions, one between them."""
        inner = [] if self.whole else [self.value(self.low + 0.382 * (self.high - self.low))]
        return [self.low, *inner, self.last] if self.step is None else [self.low, self.last]

    def __str__(self) -> str:
        told = f"{override_text(self.low)} to {override_text(self.last)}"
        by = "" if self.step is None else f" by {override_text(self.step)}"
        return f"{told}{by}{', logarithmic' if self.log else ''}{', whole' if self.whole else ''}"


@dataclass(frozen=True)
class Choices:
    """One of some values.

    Attributes:
        texts: the values as overrides have them.
        where: file and line.
    """

    texts: tuple[str, ...]
    where: str = field(default="", compare=False)

    def value(self, drawn: str) -> str:
        return drawn

    def probes(self) -> list[str]:
        return list(self.texts)

    def __str__(self) -> str:
        return " or ".join(self.texts)


SearchSpace = dict[str, Range | Choices]
"""By the dotted keys of a configuration."""


def read_space(path: Path, config_file: Path, overrides: Sequence[str]) -> SearchSpace:
    """The space of a YAML file: each key with `{low:, high:}` and, if wanted, `log: true` or `step:`; or
    with `{choices: [...]}`.

    Every bound and every choice is tried on the configuration, one at a time.

    Args:
        path: of the space.
        config_file: of the configuration that is searched.
        overrides: `key=value`, of that configuration.

    Raises:
        ConfigError: with one line for each mistake.
    """
    source = Source()
    said = read_yaml(path, source, kind="space")
    if not said:
        raise ConfigError(
            f"{path}: names no setting to try; write, for example, optim.lr: {{low: 1e-4, high: 1e-2, log: true}}"
        )
    space: SearchSpace = {}
    problems: list[str] = []
    for key, bounds in ((str(k), v) for k, v in said.items()):
        at = source.of(key)
        if why := FIXED.get(key.partition(".")[0]) or FIXED.get(key):
            problems.append(f"{at}: {key!r} is not for a search to set: {why}")
            continue
        if inner := next((other for other in map(str, said) if other.startswith(f"{key}.")), None):
            problems.append(
                f"{at}: {key!r} holds {inner!r} ({source.of(inner)}) and would undo it; leave out one of them"
            )
            continue
        found = _read_bounds(key, bounds, source)
        if isinstance(found, list):
            problems += found
            continue
        space[key] = found
        for value in found.probes():
            problems += (f"{at}: {p}" for p in misfits(key, value, config_file, overrides))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return space


def misfits(key: str, value: Value, config_file: Path, overrides: Sequence[str]) -> Iterator[str]:
    """What is wrong with a configuration in which `key` has this value."""
    override = f"{key}={text_of(value)}"
    try:
        read_config(config_file, [*overrides, override])
    except ConfigError as error:
        for problem in error.problems:
            # What is said of the override itself is said of the line in the space.
            own = problem.removeprefix(f"override {override}: ").removeprefix(f"{override!r}: ")
            yield own if own != problem else f"with {override}: {problem}"


def _read_bounds(key: str, said: Any, source: Source) -> Range | Choices | list[str]:
    """The range or the choices, or what is wrong with them."""
    at = source.of(key)
    if not isinstance(said, dict):
        return [f"{at}: {key!r} wants {{low:, high:}} or {{choices: [...]}}, got {said!r}"]
    known = ("choices", *BOUNDS)
    odd = [str(name) for name in said if name not in known]
    if odd:
        return [
            f"{source.of(f'{key}.{name}')}: unknown key '{key}.{name}'{did_you_mean(name, known)}"
            for name in odd
        ]
    both = [name for name in BOUNDS if name in said]
    if "choices" in said:
        if both:
            return [f"{at}: {key!r} has choices and {both[0]}; give choices, or low and high"]
        return _read_choices(key, said["choices"], source)
    missing = [name for name in ("low", "high") if name not in said]
    if missing:
        return [f"{at}: {key!r} has no {' and no '.join(missing)}; give low and high, or choices"]
    return _read_range(key, said, source)


def _read_choices(key: str, values: Any, source: Source) -> Choices | list[str]:
    at = source.of(f"{key}.choices")
    texts = tuple(map(override_text, values)) if isinstance(values, list) else ()
    if len(texts) < 2:
        return [f"{at}: '{key}.choices' must list two values or more, got {values!r}"]
    if len(set(texts)) < len(texts):
        return [f"{at}: '{key}.choices' lists a value twice"]
    return Choices(texts, source.of(key))


def _read_range(key: str, said: dict[str, Any], source: Source) -> Range | list[str]:
    numbers = {name: said[name] for name in ("low", "high", "step") if name in said}
    problems = [
        f"{source.of(f'{key}.{name}')}: '{key}.{name}' must be a number, got {value!r}"
        for name, value in numbers.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ]
    log, step = said.get("log", False), numbers.get("step")
    if not isinstance(log, bool):
        problems.append(f"{source.of(f'{key}.log')}: '{key}.log' must be true or false, got {log!r}")
    if problems:
        return problems
    low, high, at = numbers["low"], numbers["high"], source.of(key)
    if low >= high:
        problems.append(f"{at}: {key!r} has low {low:g}, which must be below high {high:g}")
    if log and low <= 0:
        problems.append(f"{source.of(f'{key}.log')}: {key!r} is logarithmic, so low {low:g} must be above 0")
    if step is not None:
        where = source.of(f"{key}.step")
        if log:
            problems.append(f"{where}: {key!r} has log and step; give one of them")
        if not 0 < step <= max(high - low, 0):
            problems.append(
                f"{where}: '{key}.step' must be above 0 and fit between low and high, got {step:g}"
            )
        if isinstance(low, int) and isinstance(high, int) and not isinstance(step, int):
            problems.append(
                f"{where}: '{key}.step' must be whole as the bounds are; or write them with a point"
            )
    return problems or Range(low, high, log, step, at)
