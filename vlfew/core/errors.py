"""Mistakes that the user can mend. The command line prints them as one line, with exit status 2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

SHOWN = 12
"""At most so many known names stand in a message."""


class VlfewError(Exception):
    """Something the user can mend; the message is one line that names the culprit and the way out."""


class ConfigError(VlfewError):
    """A configuration that cannot be used. `problems` holds one line for each mistake."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(VlfewError):
    """Data that are missing, damaged, or too few for what was asked."""


class ModelError(VlfewError):
    """A model or weights file that cannot be built or read."""


class RunError(VlfewError):
    """A run folder or checkpoint that does not fit the command."""


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Puts `where` before each line of a mistake that is met, which is one of the configuration then.

    Raises:
        ConfigError: in place of any `VlfewError`.
    """
    try:
        yield
    except VlfewError as error:
        raise ConfigError(f"{where}: {line}" for line in str(error).splitlines()) from None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` when `word` is close to one of the options, else the list of them."""
    options = sorted(options)
    close = get_close_matches(word, options, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = [*options[:SHOWN], "..."] if len(options) > SHOWN else options
    return f"; known: {', '.join(shown)}" if options else ""


def first_line(error: BaseException) -> str:
    """The first line of another library's message, cut to a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "..."
