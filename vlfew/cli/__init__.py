"""The command line: parse, call, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence

import rich_click as click
from click.exceptions import NoArgsIsHelpError
from rich_click.rich_panel import RichCommandPanel

from vlfew.cli.adapt import adapt
from vlfew.cli.check_model import check_model
from vlfew.cli.data import data
from vlfew.cli.doctor import doctor
from vlfew.cli.evaluate import evaluate
from vlfew.cli.gallery_server import GALLERY
from vlfew.cli.inference import classify, export, models, push
from vlfew.cli.report import report
from vlfew.cli.train import completion, recipes, train, tune
from vlfew.core.console import log
from vlfew.core.cpu_tuning import tuned_process
from vlfew.core.errors import VlfewError
from vlfew.core.files import NO_SPACE
from vlfew.core.renamed import renamed_flag

PANELS: dict[str, list[click.Command]] = {
    "Train": [train, tune, recipes],
    "Evaluate": [evaluate, adapt, report],
    "Use a model": [classify, GALLERY, export, push, models, check_model],
    "Data and shell": [data, doctor, completion],
}
"""Commands as `vlfew --help` shows them."""


@click.group(
    commands=[command for commands in PANELS.values() for command in commands],
    panels=[RichCommandPanel(title, [str(c.name) for c in commands]) for title, commands in PANELS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Vision-language few-shot learning: recognize new classes from one image, some text, or both.",
)
@click.version_option(package_name="vlfew")
def app() -> None:
    """The root command."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that the user can fix become one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the output's encoding lacks is escaped, not a reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    lines, status = list[str](), 0
    try:
        with tuned_process():
            returned = app.main(arguments, prog_name="vlfew", standalone_mode=False)
        status = returned if isinstance(returned, int) else 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has what it wanted
        _drop_output()
        status = 1  # as Click and rich have it
    except NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.Abort:
        status = 130
    except click.ClickException as error:
        lines = [_usage_problem(error, sys.argv[1:] if arguments is None else arguments)]
        status = error.exit_code
    except VlfewError as error:
        lines, status = str(error).splitlines(), 2
    except OSError as error:
        lines, status = [str(error)], 2
        if error.errno in NO_SPACE:
            lines = [
                f"{error.filename or 'the output'} cannot be written: {NO_SPACE[error.errno]}; make space there"
            ]
            _drop_output()
    for line in lines:
        log(f"vlfew: {line}")
    sys.exit(status)


def _drop_output() -> None:
    """Lets what is still to be flushed at the end go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _usage_problem(error: click.ClickException, arguments: Sequence[str]) -> str:
    """What is wrong with the arguments, and where to read about them, in one line."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if context is None:
        return message
    if isinstance(error, click.NoSuchOption):
        command = f"{context.command_path} ".split(" ")[1]
        flag, known = error.option_name, [o for p in context.command.get_params(context) for o in p.opts]
        if new := renamed_flag(command, flag, known):
            message = f"{flag} is now {new}"
        elif command in ("train", "tune") and (override := _as_override(flag, arguments)):
            message = f"No such option {flag!r}; a key of the configuration is set by {override}"
    return f"{message} ({context.command_path} --help)"


def _as_override(flag: str, arguments: Sequence[str]) -> str:
    """`optim.steps=20` for the arguments `--steps 20`; empty where no key of the configuration is called so."""
    from vlfew.core.config_file import keys_named

    given = iter(arguments)
    word = next((argument for argument in given if argument.partition("=")[0] == flag), "")
    value = word.partition("=")[2] or next(given, "")
    if not value or value.startswith("-") or ("=" in value and "=" not in word):
        value = "VALUE"
    keys = keys_named(flag.lstrip("-").replace("-", "_"))
    keys = [key for key in keys if "." not in key] or keys
    return " or ".join(shlex.quote(f"{key}={value}") for key in keys)
