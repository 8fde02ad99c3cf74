"""Errors of other libraries, reported as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vlfew.core.errors import ModelError, VlfewError, first_line
from vlfew.encoders.load_weights import misfit_of


@contextmanager
def library_errors(message: str) -> Iterator[None]:
    """Reports whatever another library raises; model libraries raise many unrelated types.

    Args:
        message: what failed, and for what; the weights that do not fit, or else the first line of the library's own
            message, follow it.

    Raises:
        ModelError: instead of the library's error.
    """
    try:
        yield
    except VlfewError:
        raise
    except Exception as error:
        raise ModelError(f"{message}: {misfit_of(error) or first_line(error)}") from error
