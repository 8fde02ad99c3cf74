"""`vlfew adapt`: few-shot methods on a frozen model, with the options of the comparison and of every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click
from rich_click.rich_panel import RichOptionPanel

from vlfew.cli.component_command import COMMANDS, component_flags, component_values
from vlfew.cli.options import RUN_HELP, UserPath, result_files, run_and_data
from vlfew.core.console import log
from vlfew.core.files import check_writable, write_atomic
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option

BY_HAND = ("methods", "fixed")
"""Parameters of the comparison that are not flags of their own name."""


def _comparison_options() -> list[Option]:
    return [option for option in COMMANDS.signature("adapt") if option.name not in BY_HAND]


def _method_options() -> dict[str, list[Option]]:
    from vlfew.classifiers import CLASSIFIERS
    from vlfew.models import FINE_TUNERS

    registries: list[Registry] = [CLASSIFIERS, FINE_TUNERS]
    return {name: registry.signature(name) for registry in registries for name in registry.names()}


class _AdaptCommand(click.RichCommand):
    """Reads the options of the comparison and of the methods when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        flags = component_flags(_comparison_options())
        for name, options in _method_options().items():
            for flag in component_flags(options, f"{name}."):
                flag.panel = f"Options of {name}"  # type: ignore[attr-defined]
                flags.append(flag)
        return [*super().get_params(ctx), *flags]


@click.command(cls=_AdaptCommand, panels=[RichOptionPanel("Options")], epilog=RUN_HELP)
@click.option(
    "--methods",
    default="all",
    show_default=True,
    help="Names, separated by commas; `all` means those that do not train the model.",
)
@click.option(
    "--cache/--no-cache", default=True, show_default=True, help="Cache features in the user's cache folder."
)
@click.option("--out", type=UserPath(), help="Folder of the results; by default RUN/adapt/DATA.")
def adapt(
    run: str,
    settings: tuple[str, ...],
    data: str | None,
    root: Path | None,
    methods: str,
    cache: bool,
    out: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    **given: Any,
) -> None:
    """Compare few-shot methods on a frozen model: accuracy by number of shots.

    All methods get the same classes, support sets and queries. The options of a method are --METHOD.OPTION; an option
    that is given is not tuned.
    """
    from vlfew.workflows.adapt import adapt, adaptation_folder, print_adaptation, save_adaptation

    options = component_values(given, _comparison_options())
    of_methods = {
        name: component_values(given, of_method, f"{name}.") for name, of_method in _method_options().items()
    }
    if fixed := {name: values for name, values in of_methods.items() if values}:
        options["fixed"] = fixed
    folder = adaptation_folder(run, out, data, options.get("split", "test"), bool(options.get("base_to_new")))
    check_writable(folder / "adapt.json", "--out")
    names = [name.strip() for name in methods.split(",")]
    result = adapt(run, data, methods=names, root=root, data_options=settings, cache=cache, **options)
    print_adaptation(result)
    page = save_adaptation(result, folder)
    if json_file is not None:
        result.save(json_file)
    if csv_file is not None:
        write_atomic(csv_file, result.to_frame().to_csv(index=False))
    log(f"page: {page}")


adapt.params = [*run_and_data(), *adapt.params, *result_files()]
