"""Errors of other libraries, reported as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vlfew.core.errors import ModelError, VlfewError, first_line


@contextmanager
def library_errors(message: str) -> Iterator[None]:
    """Reports whatever another library raises; model libraries raise many unrelated types.

    Args:
        message: what failed, and for what; the first line of the library's own message follows it.

    Raises:
        ModelError: instead of the library's error.
    """
    try:
        yield
    except VlfewError:
        raise
    except Exception as error:
        raise ModelError(f"{message}: {first_line(error)}") from error
