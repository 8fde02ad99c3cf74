"""`vlfew report`: runs side by side."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from vlfew.cli.options import UserPath, file_option, with_parameters
from vlfew.core.console import log, log_note, wide_console


@with_parameters(
    file_option("--out", ".html", "Page to write.", default=Path("comparison.html"), show_default=True),
    file_option("--json", ".json", "Also write the figures here."),
)
@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=UserPath())
def report(runs: tuple[Path, ...], out_file: Path, json_file: Path | None) -> None:
    """Compare up to 8 finished runs: results, paired tests, curves, configurations."""
    from vlfew.report import comparison

    compared = comparison.compare_runs(list(runs))
    comparison.write_comparison(compared, out_file)
    if json_file is not None:
        comparison.write_comparison_json(compared, json_file)
    for table in comparison.comparison_tables(compared):
        wide_console().print(table)
        print()
    print(compared.summary)
    for note in compared.notes:
        log_note(note)
    log(f"page: {out_file}")
