"""Results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from vlfew.evaluation.results import Result
from vlfew.report.formatting import accuracy, extras, setting


def results_table(results: Sequence[Result]) -> Table:
    """A row a result: protocol, data/split, setting, accuracy ± interval in percent, extras, interval over what."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("protocol", "data/split", "setting"):
        table.add_column(name, no_wrap=True)
    table.add_column("accuracy %", justify="right", no_wrap=True)
    further = any(extras(result) for result in results)
    if further:
        table.add_column("also %", no_wrap=True)
    table.add_column("interval over", justify="right", no_wrap=True)
    for result in results:
        row = (
            result.protocol,
            f"{result.data}/{result.split}",
            setting(result),
            accuracy(result),
            *(["\n".join(extras(result))] if further else []),
            result.interval_unit,
        )
        table.add_row(*(Text(cell) for cell in row))
    return table
