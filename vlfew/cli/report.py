"""`vlfew report`: runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click

from vlfew.cli.options import file_option, with_parameters


@with_parameters(
    file_option("--out", ".html", "Page to write.", default=Path("comparison.html"), show_default=True),
    file_option("--json", ".json", "Also write the figures here."),
)
@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
def report(runs: tuple[Path, ...], out_file: Path, json_file: Path | None) -> None:
    """Compare up to 8 finished runs: results, paired tests, curves, configurations."""
    from rich.console import Console

    from vlfew.report.comparison import (
        compare_runs,
        comparison_tables,
        write_comparison,
        write_comparison_json,
    )

    compared = compare_runs(list(runs))
    write_comparison(compared, out_file)
    if json_file is not None:
        write_comparison_json(compared, json_file)
    console = Console()
    # When piped or redirected, rich would fold the tables to 80 columns.
    wide = Console(width=console.width if console.is_terminal else 200)
    for table in comparison_tables(compared):
        wide.print(table)
        print()
    print(compared.summary)
    print(f"page: {out_file}", file=sys.stderr)
