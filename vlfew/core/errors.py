"""Errors that a user can fix. The command line prints them as one line, with exit status 2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MAX_SHOWN = 12
"""Known names listed in a message, at most."""


def one_line(message: str) -> str:
    """The message with control characters and line breaks, which names may contain, as escapes (`\\n`)."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], message)


class VlfewError(Exception):
    """An error that the user can fix; its message is one line that names the cause and the way out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class ConfigError(VlfewError):
    """An invalid configuration. `problems` holds one line per mistake."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [one_line(p) for p in ([problems] if isinstance(problems, str) else problems)]
        Exception.__init__(self, "\n".join(self.problems))


class DataError(VlfewError):
    """Data that are missing, damaged, or not sufficient."""


class ModelError(VlfewError):
    """A model or weights file that cannot be built or read."""


class RunError(VlfewError):
    """A run folder or checkpoint that does not fit the command."""


class WriteError(VlfewError, OSError):
    """A file that cannot be written: the disk is full, or the place is read-only."""


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Prefix every line of a `VlfewError` raised in the block with `where`, and raise it as a ConfigError.

    Raises:
        ConfigError: in place of any `VlfewError`.
    """
    try:
        yield
    except VlfewError as error:
        raise ConfigError(f"{where}: {line}" for line in str(error).splitlines()) from None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` when `word` is close to one of the options, otherwise the list of them."""
    options = sorted(options)
    close = get_close_matches(word, options, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = [*options[:MAX_SHOWN], "..."] if len(options) > MAX_SHOWN else options
    return f"; known: {', '.join(shown)}" if options else ""


def first_line(error: BaseException) -> str:
    """The first line of another library's message, with the next one where it ends in a colon; not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return line if len(line) <= 160 else line[:157] + "..."


def describe_value(value: object) -> str:
    """A value for an error message, on one line; tensors and arrays by type and shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {list(shape)}"
    return " ".join(f"{value!r:.80}".split())
