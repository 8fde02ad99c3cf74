"""`vlfew adapt`: few-shot methods on a frozen model, with the options of the comparison and of every method."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rich_click as click
from rich_click.rich_panel import RichOptionPanel

from vlfew.cli.component_command import component_flags, component_values
from vlfew.cli.options import RUN_HELP, data_parameters, file_option
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option, component_options

COMPARISON = "vlfew.evaluation.adaptation.compare:compare_methods"
BY_HAND = ("methods", "fixed")
"""Parameters of the comparison that are not flags of their own name."""


def _comparison_options() -> list[Option]:
    return [option for option in component_options(COMPARISON) if option.name not in BY_HAND]


def _method_options() -> dict[str, list[Option]]:
    from vlfew.classifiers import CLASSIFIERS
    from vlfew.models import FINE_TUNERS

    registries: list[Registry] = [CLASSIFIERS, FINE_TUNERS]
    return {name: registry.signature(name) for registry in registries for name in registry.names()}


class _AdaptCommand(click.RichCommand):
    """Reads the options of the comparison and of the methods when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        flags = component_flags(_comparison_options())
        for name, options in _method_options().items():
            for flag in component_flags(options, f"{name}."):
                flag.panel = f"Options of {name}"  # type: ignore[attr-defined]
                flags.append(flag)
        at = next(n for n, p in enumerate(params) if p.name == "cache")
        return [*params[:at], *flags, *params[at:]]


def _adapt(
    run: str,
    settings: tuple[str, ...],
    data: str | None,
    root: Path | None,
    methods: str,
    cache: bool,
    out: Path | None,
    csv_file: Path | None,
    **given: Any,
) -> None:
    from vlfew.workflows.adapt import adapt, adaptation_folder, print_adaptation, save_adaptation

    options = component_values(given, _comparison_options())
    of_methods = {
        name: component_values(given, of_method, f"{name}.") for name, of_method in _method_options().items()
    }
    if fixed := {name: values for name, values in of_methods.items() if values}:
        options["fixed"] = fixed
    folder = adaptation_folder(run, out, data, options.get("split", "test"), bool(options.get("base_to_new")))
    result = adapt(
        run,
        data,
        methods=[name.strip() for name in methods.split(",")],
        root=root,
        data_options=settings,
        cache=cache,
        **options,
    )
    page = save_adaptation(result, folder)
    if csv_file is not None:
        csv_file.write_text(result.to_frame().to_csv(index=False), encoding="utf-8")
    print_adaptation(result)
    print(f"page: {page}", file=sys.stderr)


adapt = _AdaptCommand(
    name="adapt",
    callback=_adapt,
    panels=[RichOptionPanel("Options")],
    help="Compare few-shot methods on a frozen model: accuracy by number of shots.\n\n"
    "All methods get the same classes, support sets and queries. The options of a method are --METHOD.OPTION; an "
    "option that is given is not tuned.",
    epilog=RUN_HELP,
    params=[
        click.Argument(["run"], metavar="RUN"),
        *data_parameters(),
        click.Option(
            ["--methods"],
            default="all",
            show_default=True,
            help="Names, separated by commas; `all` means those that do not train the model.",
        ),
        click.Option(
            ["--cache/--no-cache"],
            default=True,
            show_default=True,
            help="Cache features in the user's cache folder.",
        ),
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path),
            help="Folder of the results [default: RUN/adapt/DATA].",
        ),
        file_option("--csv", ".csv", "Also write the table here."),
    ],
)
