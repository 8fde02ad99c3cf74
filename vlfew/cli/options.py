"""Arguments and options shared by commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from vlfew.core.console import log
from vlfew.core.files import check_writable

RUN_HELP = (
    "RUN is a run folder, a hub id (OWNER/NAME), or a published model with a prefix: open_clip:ARCH/TAG, "
    "transformers:NAME or timm:NAME, or a backbone of a Python package: efficientnet_lite0, dlib_face_resnet."
)


class UserPath(click.Path):
    """A path that is not empty: an unset shell variable would silently be the current folder."""

    def __init__(self, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty; name one, or leave this out", param, ctx)
        return super().convert(value, param, ctx)


run_argument = click.argument("run", metavar="RUN")
runs_option = click.option(
    "--runs",
    type=UserPath(),
    default=Path("runs"),
    show_default=True,
    help="Folder of run folders.",
)
images_argument = click.argument("images", metavar="IMAGE...", nargs=-1, required=True)


def run_and_data() -> list[click.Parameter]:
    """RUN, `data.KEY=VALUE`, `--data` and `--root`: a model, and the data that it is evaluated on."""
    return [
        click.Argument(["run"], metavar="RUN"),
        settings_argument(),
        click.Option(["--data"], metavar="SOURCE", help="Data source; by default that of the run."),
        root_option(),
        verify_option(),
    ]


def settings_argument() -> click.Argument:
    """`data.KEY=VALUE`: options of the data source."""
    return click.Argument(["settings"], nargs=-1, metavar="[data.KEY=VALUE]...", callback=_data_settings)


def verify_option() -> click.Option:
    """`--verify`: read the files themselves, whatever is remembered of them."""

    def verify(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            from vlfew.data.file_hashes import verified

            ctx.with_resource(verified())

    help = "Read every image file again, even if its size and times are those of the last hash."
    return click.Option(["--verify"], is_flag=True, expose_value=False, callback=verify, help=help)


def root_option() -> click.Option:
    """`--root`: the folder of the data."""
    return click.Option(["--root"], type=UserPath(), help="Folder of the data.")


def note_repeated(ctx: click.Context, parameter: click.Parameter, value: Sequence[str]) -> Sequence[str]:
    """Says which keys are given more than once, of which the last counts."""
    counts = Counter(setting.partition("=")[0] for setting in value)
    for key in (key for key, count in counts.items() if count > 1):
        log(f"vlfew: warning: {key} is given {counts[key]} times; the last one counts")
    return value


def _data_settings(ctx: click.Context, parameter: click.Parameter, value: Sequence[str]) -> Sequence[str]:
    for setting in value:
        if not setting.startswith("data.") or "=" not in setting:
            raise click.BadParameter(f"{setting!r} is not data.KEY=VALUE, such as data.center_crop=0.6")
    return note_repeated(ctx, parameter, value)


def file_option(flag: str, suffix: str, help: str, **settings: Any) -> click.Option:
    """A file to write. Its place and suffix are checked first: a mistyped name replaces no other file."""

    def check(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and path.suffix != suffix:
            raise click.BadParameter(f"{str(path)!r} does not end in {suffix}")
        if path is not None and not ctx.resilient_parsing:
            check_writable(path, flag)
        return path

    name = flag.lstrip("-").replace("-", "_") + "_file"
    return click.Option(
        [flag, name],
        type=UserPath(dir_okay=False),
        callback=check,
        help=help,
        metavar=f"FILE{suffix}",
        **settings,
    )


def result_files() -> list[click.Option]:
    """`--json` and `--csv`: where results are also written."""
    return [
        file_option("--json", ".json", "Also write the results here, as JSON."),
        file_option("--csv", ".csv", "Also write the results here, as a table."),
    ]


def with_parameters(*parameters: click.Parameter) -> Callable[[click.Command], click.Command]:
    """Add parameters to a command in front of its own."""

    def add(command: click.Command) -> click.Command:
        command.params = [*parameters, *command.params]
        return command

    return add
