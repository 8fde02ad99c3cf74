"""`vlfew doctor`: what is in the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import rich_click as click

from vlfew.cli.options import root_option, settings_argument, verify_option, with_parameters
from vlfew.core.plurals import counted

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@with_parameters(
    click.Argument(["target"], required=False, metavar="[DATA|MODEL|RUN]"),
    settings_argument(),
    root_option(),
    verify_option(),
)
@click.command()
def doctor(target: str | None, settings: tuple[str, ...], root: Path | None) -> int:
    """Say what would be in the way: of a data set, a model, a run, or the installation alone.

    DATA is a folder of images or the name of a source (`vlfew data list`), MODEL what `vlfew evaluate` takes, RUN a run
    folder. Nothing is trained or downloaded. Status 1 if there is a problem.
    """
    from rich.table import Table
    from rich.text import Text

    from vlfew.core.console import wide_console
    from vlfew.workflows.doctor import examine

    findings = examine(target, root=root, data_options=settings)
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        table.add_row(
            Text(finding.level, STYLES[finding.level]), finding.topic, Text(finding.text, overflow="fold")
        )
    wide_console().print(table)
    count = Counter(finding.level for finding in findings)
    print(f"{counted(count['problem'], 'problem')}, {counted(count['note'], 'note')}")
    return 1 if count["problem"] else 0
