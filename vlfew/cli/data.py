"""`vlfew data`: list the sources, look at one, put one in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlfew.cli.options import Options, data_options, print_table
from vlfew.core.errors import VlfewError

if TYPE_CHECKING:
    from vlfew.data.preprocess import ImagePreprocessor


def list_sources() -> None:
    """List the data sources and whether their data are at hand."""
    from vlfew.data.sources import SOURCES, find_source

    known = {
        "glyphs": "built in",
        "folder": "any folder of images: --root PATH",
        "captions": "any folder with a captions.csv or .jsonl: --root PATH",
        "pairs": "any folder with a pairs.csv: --root PATH",
        "hf:": "a path, or a data set of the Hugging Face hub",
    }
    rows = []
    for name in SOURCES.names():
        place = known.get(name)
        if place is None:
            try:
                place = str(find_source(name))
            except VlfewError:
                place = f"not here: vlfew data prepare {name} --from PATH"
        shown, example = (name + "NAME", name + "x") if name.endswith(":") else (name, name)
        rows.append([shown, ", ".join(SOURCES.options(example).model_fields) or "-", place])
    print_table(["name", "options", "where"], rows)


def show(
    name: str,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    image_size: Annotated[int, typer.Option(help="Pixels.")] = 84,
    channels: Annotated[int, typer.Option(min=1, max=3, help="1 gray, 3 color.")] = 3,
    skip_bad: Annotated[bool, typer.Option(help="Leave unreadable images out and count them.")] = False,
    split: Annotated[str | None, typer.Option(help="Split on the sheet; all if not given.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Contact sheet to write [<name>.png].")
    ] = None,
    options: Options = [],  # noqa: B006
) -> None:
    """Say what is in a data set, and draw a contact sheet of it."""
    from vlfew.core.files import file_stem
    from vlfew.data.preprocess import ImagePreprocessor
    from vlfew.data.preview import contact_sheet, describe
    from vlfew.data.sources import load_data

    if channels == 2 or image_size < 8:
        raise VlfewError("--channels is 1 or 3, and --image-size at least 8 pixels")
    preprocessor = ImagePreprocessor(image_size, channels, on_bad_image="skip" if skip_bad else "error")
    preprocessor, asked = data_options(name, preprocessor, options)
    images = load_data(name, root, preprocessor, **asked)
    metadata = describe(images)
    rows = [
        ("data", f"{metadata['name']}, fingerprint {metadata['fingerprint']}"),
        ("images", f"{metadata['images']:,} of {' x '.join(map(str, metadata['shape']))}"),
        (
            "classes",
            f"{metadata['classes']:,}" + (f" in {metadata['groups']} groups" if metadata["groups"] else ""),
        ),
        ("names", f"{'words' if metadata['names_are_text'] else 'codes'}: {'; '.join(metadata['examples'])}"),
    ]
    rows.append(("framed", _framing(preprocessor)))
    rows.append(("splits", f"by {metadata['split_by']}"))
    for part, s in metadata["splits"].items():
        each = f"{s['fewest_per_class']} to {s['most_per_class']} a class"
        rows.append((part, f"{s['classes']:,} classes, {s['images']:,} images, {each}"))
    rows.append(("in memory", f"{metadata['bytes_in_memory'] / 2**20:,.1f} MiB decoded"))
    if metadata["skipped"]:
        rows.append(("skipped", f"{metadata['skipped']:,} images that could not be read"))
    if metadata["note"]:
        rows.append(("note", metadata["note"]))
    path = sheet or Path(f"{file_stem(name)}.png")
    contact_sheet(images, [split] if split else list(images.splits), path)
    for key, value in [*rows, ("sheet", path)]:
        print(f"{key:<10} {value}")


def prepare(
    name: str,
    source: Annotated[Path | None, typer.Option("--from", help="Archive or folder to take it from.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch it, where that is possible.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where to put it [the user's cache].")] = None,
) -> None:
    """Put a data set in place: unpacked safely and checked, or not at all."""
    from vlfew.data import prepare

    if (source is None) == (not download):
        raise VlfewError("give one of --from PATH and --download")
    print(prepare.download(name, root) if source is None else prepare.prepare(name, source, root))


def _framing(preprocessor: ImagePreprocessor) -> str:
    """How images were made square, and by what they would be framed in another way."""
    part = (
        "whole images"
        if preprocessor.center_crop == 1
        else f"the middle {preprocessor.center_crop:.0%} of images"
    )
    if preprocessor.resize == "squash":
        return f"{part}, stretched to a square (--set resize=crop takes the middle square, --set center_crop=0.6 less)"
    return f"{part}, the middle square of each (--set resize=squash keeps all of it)"
