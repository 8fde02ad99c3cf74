"""The command line: parse, call, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import io
import os
import sys

import rich_click as click
from click.exceptions import NoArgsIsHelpError
from rich_click.rich_panel import RichCommandPanel

from vlfew.cli.adapt import adapt
from vlfew.cli.data import data
from vlfew.cli.evaluate import evaluate
from vlfew.cli.inference import classify, export, models, push
from vlfew.cli.report import report
from vlfew.cli.train import completion, recipes, train, tune
from vlfew.core.cpu_tuning import tuned_process
from vlfew.core.errors import VlfewError
from vlfew.core.renamed import FLAGS

PANELS = {
    "Train": ["train", "tune", "recipes"],
    "Evaluate": ["evaluate", "adapt", "report"],
    "Use a model": ["classify", "export", "push", "models"],
    "Data and shell": ["data", "completion"],
}
"""Commands as `vlfew --help` shows them."""


@click.group(
    panels=[RichCommandPanel(title, commands) for title, commands in PANELS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Vision-language few-shot learning: recognize new classes from one image, some text, or both.",
)
@click.version_option(package_name="vlfew")
def app() -> None:
    """The root command."""


for command in (
    train,
    tune,
    recipes,
    evaluate,
    adapt,
    classify,
    report,
    data,
    models,
    export,
    push,
    completion,
):
    app.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that the user can fix become one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the output's encoding lacks is escaped, not a reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with tuned_process():
            status = app.main(arguments, prog_name="vlfew", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"vlfew: {_usage_problem(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (VlfewError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":
            for line in str(error).splitlines():
                print(f"vlfew: {line}", file=sys.stderr)
        signal = getattr(error, "signal", 0)
        sys.exit(128 + signal if signal else 2)


def _usage_problem(error: click.ClickException) -> str:
    """What is wrong with the arguments, and where to read about them, in one line."""
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.option_name in FLAGS:
        message = f"{error.option_name} is now {FLAGS[error.option_name]}"
    context = getattr(error, "ctx", None)
    return f"{message} ({context.command_path} --help)" if context is not None else message
