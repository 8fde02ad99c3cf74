"""`vlfew evaluate PROTOCOL RUN`: one command per protocol, with that protocol's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from vlfew.cli.component_command import ComponentGroup, component_flags, component_values
from vlfew.cli.options import RUN_HELP, file_option, result_files, run_and_data
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option


def _protocols() -> Registry:
    from vlfew.evaluation import PROTOCOLS

    return PROTOCOLS


def _command(protocol: str, options: list[Option]) -> click.Command:
    def run(
        run: str,
        settings: tuple[str, ...],
        data: str | None,
        root: Path | None,
        json_file: Path | None,
        csv_file: Path | None,
        per_episode_file: Path | None,
        **given: Any,
    ) -> None:
        from vlfew.evaluation.results import write_csv, write_results
        from vlfew.workflows.evaluate import evaluate, print_results

        values = component_values(given, options)
        result = evaluate(
            run, data, protocol, root=root, data_options=settings, per_episode=per_episode_file, **values
        )
        print_results([result])
        if json_file is not None:
            write_results(json_file, [result])
        if csv_file is not None:
            write_csv(csv_file, [result])

    parameters = [
        *run_and_data(),
        *component_flags(options),
        *result_files(),
        file_option("--per-episode", ".npy", "Also write the accuracy of each episode here."),
    ]
    return click.RichCommand(name=protocol, callback=run, params=parameters, epilog=RUN_HELP)


@click.group(
    cls=ComponentGroup,
    registry=_protocols,
    build=_command,
    options_metavar="",
    subcommand_metavar="PROTOCOL RUN [OPTIONS]",
    epilog=RUN_HELP,
)
def evaluate() -> None:
    """Evaluate a model by a protocol; nothing is trained and nothing is selected.

    `vlfew evaluate PROTOCOL --help` shows the options of a protocol.
    """
