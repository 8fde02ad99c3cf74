"""What commands print: tables to standard output, what happens to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 200
"""Columns of a table in a file or pipe, where rich would fold it to 80."""


def wide_console() -> Console:
    """A console for tables: as wide as the terminal, or else `WIDTH`."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, no_wrap: Sequence[str] = ()
) -> None:
    """Print a table to standard output; columns in `no_wrap` keep their cells on one line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in no_wrap)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    wide_console().print(table)


def is_main_process() -> bool:
    """Whether this is the first of the processes of a launcher, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def log(line: str) -> None:
    """Print a line to standard error, in the main process alone."""
    if is_main_process():
        print(line, file=sys.stderr, flush=True)


def log_note(note: str) -> None:
    """Print to standard error what a reader of the results must know."""
    log(f"note       {note}")


_NOTED = set[str]()


def log_not_cached(what: str, why: object) -> None:
    """`log_note` that something is not in the user's cache, for the first `why` of a `what`."""
    if what not in _NOTED:
        _NOTED.add(what)
        log_note(f"{what} (XDG_CACHE_HOME names another place for the cache): {why}")
