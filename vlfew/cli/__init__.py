"""The command line: parse, call, print. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

import typer

from vlfew.cli import data, evaluate, inference, training
from vlfew.core.cpu_tuning import prepared_process
from vlfew.core.errors import VlfewError

app = typer.Typer(
    name="vlfew",
    help="Vision-language few-shot learning: new classes from one image, a few words, or both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
VERBS: tuple[Callable[..., None], ...] = (
    training.train,
    training.tune,
    evaluate.evaluate,
    evaluate.adapt,
    inference.classify,
    inference.push,
    inference.export,
    evaluate.report,
    inference.models,
)
DATA_VERBS: dict[str, Callable[..., None]] = {
    "list": data.list_sources,
    "show": data.show,
    "prepare": data.prepare,
}

for verb in VERBS:
    app.command()(verb)
data_app = typer.Typer(help="Data sources: list them, look at one, put one in place.", no_args_is_help=True)
for name, verb in DATA_VERBS.items():
    data_app.command(name)(verb)
app.add_typer(data_app, name="data")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; mistakes become one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the output's encoding lacks is escaped, not a reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with prepared_process():
            app(arguments, standalone_mode=True)
    except (VlfewError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":
            for line in str(error).splitlines():
                print(f"vlfew: {line}", file=sys.stderr)
        signal = getattr(error, "signal", 0)
        sys.exit(128 + signal if signal else 2)
