"""Checks of arguments and options: one line that names it, its value, and what it may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from numbers import Real
from pathlib import Path
from typing import Any, get_args

from vlfew.core.errors import ConfigError, DataError, describe_value


def to_list(values: object, what: str, where: str = "") -> list[Any]:
    """The values of a list or of another iterable, such as a generator, an array or a column of a table.

    Raises:
        DataError: a single value, or something without an order.
    """
    try:
        if isinstance(values, Iterable) and not isinstance(values, str | bytes | Path | Mapping | Set):
            return list(values)
    except TypeError:  # an array of no dimensions
        pass
    raise DataError(f"{where}expected a list of {what}, got {describe_value(values)}")


def to_path(value: object, what: str) -> Path:
    """
    Raises:
        ConfigError: this is no path, or an empty one.
    """
    if isinstance(value, str) and not value:
        raise ConfigError(f"{what} is an empty path; name one")
    if isinstance(value, str | Path):
        return Path(value)
    raise ConfigError(f"{what} must be a path, got {describe_value(value)}")


def check_positive(name: str, value: float) -> None:
    """
    Raises:
        ConfigError: the option is not a finite number above 0.
    """
    if not (_is_number(value) and 0 < value < math.inf):
        raise ConfigError(f"{name} is {value!r}; it must be a number above 0")


def check_each_positive(owner: str, **options: float) -> None:
    """
    Raises:
        ConfigError: an option of `owner` is not a finite number above 0.
    """
    for option, value in options.items():
        check_positive(f"{owner}'s {option}", value)


def check_at_least(name: str, value: int, least: int = 1) -> None:
    """
    Raises:
        ConfigError: the option is below `least`.
    """
    if not (_is_number(value) and value >= least):
        raise ConfigError(f"{name} is {value!r}; it must be at least {least}")


def check_dropout(name: str, value: float) -> None:
    """
    Raises:
        ConfigError: the option is not a probability in `[0, 1)`.
    """
    if not (_is_number(value) and 0 <= value < 1):
        raise ConfigError(f"{name} is {value!r}; it must be at least 0 and below 1")


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """
    Raises:
        ConfigError: the option is not a finite number from `low` to `high`.
    """
    if not (_is_number(value) and low <= value <= high and value < math.inf):
        bounds = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:.4g}"
        raise ConfigError(f"{name} is {value!r}; it must be a number {bounds}")


def check_one_of(name: str, value: Any, kinds: Any) -> None:
    """
    Raises:
        ConfigError: the option is not one of the values of the `Literal` `kinds`.
    """
    if value not in (known := get_args(kinds)):
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(str, known))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
