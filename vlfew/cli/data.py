"""`vlfew data`: list the sources, inspect one, put one in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from vlfew.cli.component_command import ComponentGroup, component_flags, component_values
from vlfew.cli.options import print_table
from vlfew.core.errors import VlfewError
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option

if TYPE_CHECKING:
    from vlfew.data.preprocess import ImagePreprocessor

LOCATIONS = {
    "glyphs": "built in",
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


def _show_command(source: str, options: list[Option]) -> click.Command:
    def run(
        root: Path | None,
        image_size: int,
        channels: str,
        resize: str,
        center_crop: float,
        split_seed: int,
        skip_bad: bool,
        sheet_split: str | None,
        sheet: Path | None,
        name: str = source,
        **given: Any,
    ) -> None:
        from vlfew.data.preprocess import ImagePreprocessor

        preprocessor = ImagePreprocessor(
            image_size,
            int(channels),
            resize=resize,  # type: ignore[arg-type]
            center_crop=center_crop,
            on_bad_image="skip" if skip_bad else "error",
            seed=split_seed,
        )
        full_name = source + name if source.endswith(":") else source
        _show(full_name, root, preprocessor, component_values(given, options), sheet_split, sheet)

    parameters: list[click.Parameter] = [
        click.Option(["--root"], type=click.Path(path_type=Path), help="Folder of the data."),
        *component_flags(options),
        click.Option(
            ["--image-size"],
            type=click.IntRange(8),
            default=84,
            show_default=True,
            help="Height and width in pixels.",
        ),
        click.Option(
            ["--channels"],
            type=click.Choice(["1", "3"]),
            default="3",
            show_default=True,
            help="1 gray, 3 color.",
        ),
        click.Option(
            ["--resize"],
            type=click.Choice(["stretch", "crop"]),
            default="stretch",
            show_default=True,
            help="Stretch the image to a square, or take its middle square.",
        ),
        click.Option(
            ["--center-crop"],
            type=click.FloatRange(0, 1, min_open=True),
            default=1.0,
            show_default=True,
            help="Fraction of each side to keep.",
        ),
        click.Option(
            ["--split-seed"], type=int, default=0, show_default=True, help="Seed of splits that are drawn."
        ),
        click.Option(["--skip-bad"], is_flag=True, help="Skip and count images that cannot be read."),
        click.Option(["--sheet-split"], help="Split to draw; by default all of them."),
        click.Option(
            ["--sheet"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="Contact sheet to write [<name>.png].",
        ),
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

    `vlfew data show SOURCE --help` shows the options of a source; `hf:` takes a name: `vlfew data show hf: NAME`.
    """


def _show(
    name: str,
    root: Path | None,
    preprocessor: ImagePreprocessor,
    options: dict[str, Any],
    split: str | None,
    sheet: Path | None,
) -> None:
    from vlfew.core.files import file_stem
    from vlfew.data.loading import load_data
    from vlfew.data.preview import contact_sheet, describe

    dataset = load_data(name, root, preprocessor, **options)
    path = sheet or Path(f"{file_stem(name)}.png")
    contact_sheet(dataset, [split] if split else list(dataset.splits), path)
    for key, value in [*describe(dataset), ("resized", _resizing(preprocessor)), ("sheet", str(path))]:
        print(f"{key:<10} {value}")


def _resizing(preprocessor: ImagePreprocessor) -> str:
    """How images became square, and the options that change it."""
    crop = preprocessor.center_crop
    part = "full images" if crop == 1 else f"the central {crop:.0%} of images"
    if preprocessor.resize == "stretch":
        return (
            f"{part}, stretched to a square (--resize crop takes the middle square, --center-crop 0.6 less)"
        )
    return f"{part}, the middle square of each (--resize stretch keeps all of it)"


@data.command()
@click.argument("name", metavar="SOURCE")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Archive or folder to take it from.")
@click.option("--download", is_flag=True, help="Download it, where that is possible.")
@click.option("--root", type=click.Path(path_type=Path), help="Where to put it; by default the user's cache.")
def prepare(name: str, source: Path | None, download: bool, root: Path | None) -> None:
    """Put a data set in place: unpacked safely and checked, or not at all."""
    from vlfew.data import prepare

    if (source is None) == (not download):
        raise VlfewError("give one of --from PATH and --download")
    print(prepare.download(name, root) if source is None else prepare.prepare(name, source, root))
