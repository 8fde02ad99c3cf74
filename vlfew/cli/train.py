"""`vlfew train`, `tune`, `recipes` and `completion`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from vlfew.cli.component_command import COMMANDS, component_flags, component_values
from vlfew.cli.options import UserPath, note_repeated, runs_option, verify_option, with_parameters
from vlfew.core.console import print_table
from vlfew.core.recipes import find_recipe, list_recipes


def _complete_recipe(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [recipe.name for recipe in list_recipes() if recipe.name.startswith(incomplete)]


config_argument = click.argument("config", metavar="CONFIG", shell_complete=_complete_recipe)
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", callback=note_repeated)


@with_parameters(verify_option())
@click.command()
@config_argument
@overrides_argument
@runs_option
def train(config: str, overrides: tuple[str, ...], runs: Path) -> None:
    """Train, evaluate and report.

    CONFIG is a YAML file or the name of a recipe (`vlfew recipes`). The same command again resumes an interrupted run
    or shows a finished one.
    """
    from vlfew.workflows.train import train as train_run

    train_run(config, overrides, runs)


@with_parameters(*component_flags(COMMANDS.signature("tune")))
@click.command()
@config_argument
@overrides_argument
@click.option(
    "--space",
    type=UserPath(),
    required=True,
    help="YAML file: keys with {low:, high:} or {choices: [...]}.",
)
@runs_option
def tune(config: str, overrides: tuple[str, ...], space: Path, runs: Path, **given: Any) -> None:
    """Search hyperparameters on the validation split.

    CONFIG is a YAML file or the name of a recipe. The same command again continues the search.
    """
    from vlfew.workflows.tune import tune as tune_config

    options = COMMANDS.checked("tune", component_values(given, COMMANDS.signature("tune")), flags=True)
    tune_config(config, overrides, space, runs, **options)


@click.command()
@click.argument("name", required=False, metavar="[NAME]")
def recipes(name: str | None) -> None:
    """List the configurations that come with the package, or print one of them."""
    if name is not None:
        print(find_recipe(name).read_text(encoding="utf-8"), end="")
        return
    rows = [[r.name, r.summary, r.needs, r.time] for r in list_recipes()]
    print_table(["name", "what", "needs", "training time (CPU)"], rows, no_wrap=["name"])


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell, to be evaluated in its startup file.

    For bash: eval "$(vlfew completion bash)" in ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    kind, context = get_completion_class(shell), click.get_current_context()
    assert kind is not None and context is not None
    app = context.find_root().command
    print(kind(app, {}, "vlfew", "_VLFEW_COMPLETE").source())
