"""`vlfew data`: list the sources, inspect one, put one in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from vlfew.cli.component_command import COMMANDS, ComponentGroup, component_flags, component_values
from vlfew.cli.options import UserPath, root_option, verify_option
from vlfew.core.console import log, print_table
from vlfew.core.errors import VlfewError, WriteError
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option

LOCATIONS = {
    "glyphs": "built in",
    "glyph_pages": "built in",
    "coco": "any folder of images with boxes (COCO, YOLO, VOC): --root PATH",
    "folder": "any folder of images: --root PATH",
    "captions": "any folder with a captions.csv or .jsonl: --root PATH",
    "pairs": "any folder with a pairs.csv: --root PATH",
    "hf:": "a path, or a data set on the Hugging Face hub",
}
"""Where the data of sources without a fixed place come from."""


@click.group()
def data() -> None:
    """List, inspect and prepare data sets."""


def _sources() -> Registry:
    from vlfew.data.sources import SOURCES

    return SOURCES


@data.command("list")
def list_sources() -> None:
    """List the data sources and whether their data are available."""
    from vlfew.data.loading import find_source

    sources, rows = _sources(), []
    for name in sources.names():
        location = LOCATIONS.get(name)
        if location is None:
            try:
                location = str(find_source(name))
            except VlfewError:
                location = f"not found: vlfew data prepare {name} --from PATH"
        options = ", ".join(option.name for option in sources.signature(name)) or "-"
        rows.append([name + "NAME" if name.endswith(":") else name, options, location])
    print_table(["name", "options", "location"], rows, no_wrap=["name"])


def _show_command(source: str, source_options: list[Option]) -> click.Command:
    options = COMMANDS.signature("data show")

    def run(root: Path | None, name: str = "", **given: Any) -> int:
        from vlfew.workflows.show_data import show_data

        checked = COMMANDS.checked("data show", component_values(given, options), flags=True)
        try:
            for key, value in show_data(
                source + name, root, component_values(given, source_options), **checked
            ):
                print(f"{key:<10} {value}")
        except WriteError as error:
            if checked["sheet"] is not None:
                raise
            log(f"vlfew: the contact sheet {error} (--sheet)")
            return 1
        return 0

    parameters: list[click.Parameter] = [
        root_option(),
        verify_option(),
        *component_flags(source_options),
        *component_flags(options),
    ]
    if source.endswith(":"):
        parameters.insert(0, click.Argument(["name"], metavar="NAME"))
    return click.RichCommand(name=source, callback=run, params=parameters)


@data.group(
    cls=ComponentGroup,
    registry=_sources,
    build=_show_command,
    options_metavar="",
    subcommand_metavar="SOURCE [OPTIONS]",
)
def show() -> None:
    """Describe a data set and draw a contact sheet of it.

    `vlfew data show SOURCE --help` shows the options of a source; a Hugging Face data set is `hf:NAME`.
    Where the sheet cannot be written to the working folder, the description is all, and the exit status is 1.
    """


@data.command()
@click.argument("name", metavar="SOURCE")
@click.option("--from", "source", type=UserPath(), help="Archive or folder to take it from.")
@click.option("--download", is_flag=True, help="Download it, where that is possible.")
@click.option("--root", type=UserPath(), help="Where to put it; by default the user's cache.")
def prepare(name: str, source: Path | None, download: bool, root: Path | None) -> None:
    """Put a data set in place: unpacked safely and checked, or not at all."""
    from vlfew.data import prepare

    if (source is None) == (not download):
        raise VlfewError("give one of --from PATH and --download")
    print(prepare.download(name, root) if source is None else prepare.prepare(name, source, root))
