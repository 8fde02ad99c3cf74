"""Options out of range: one line that names the option, what it is, and what it may be."""

from __future__ import annotations

import math

from vlfew.errors import ConfigError


def require_above_zero(name: str, value: float) -> None:
    """
    Raises:
        ConfigError: the option is not a finite number above 0.
    """
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value}; it must be a number above 0")


def require_each_above_zero(who: str, **options: float) -> None:
    """
    Raises:
        ConfigError: an option of `who` is not a finite number above 0.
    """
    for option, value in options.items():
        require_above_zero(f"{who}'s {option}", value)


def require_count(name: str, value: int, least: int = 1) -> None:
    """
    Raises:
        ConfigError: the option is below `least`.
    """
    if value < least:
        raise ConfigError(f"{name} is {value}; it must be at least {least}")


def require_rate(name: str, value: float) -> None:
    """Refuses a dropout that is no probability, or that would leave nothing.

    Raises:
        ConfigError: the option is not in `[0, 1)`.
    """
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 0 and below 1")


def require_within(name: str, value: float, low: float, high: float = math.inf) -> None:
    """
    Raises:
        ConfigError: the option is not a finite number from `low` to `high`.
    """
    if not low <= value <= high or value == math.inf:
        bounds = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:.4g}"
        raise ConfigError(f"{name} is {value}; it must be a number {bounds}")
