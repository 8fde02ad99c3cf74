"""What verbs share: how flags are read, data are found and tables printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlfew.core.errors import VlfewError

if TYPE_CHECKING:
    from vlfew.data.labeled_images import LabeledImages
    from vlfew.data.preprocess import ImagePreprocessor

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run folder, a hub id, open_clip:ARCH/TAG, transformers:NAME or timm:NAME."
    ),
]
Options = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A data option; repeatable.")]


def ending_in(suffix: str) -> Callable[[Path | None], Path | None]:
    """What holds an output file to its kind, so that a mistyped name replaces nothing else."""

    def held(path: Path | None) -> Path | None:
        if path is not None and path.suffix != suffix:
            raise typer.BadParameter(f"{str(path)!r} does not end in {suffix}")
        return path

    return held


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)


def count_or(word: str, text: str | None, flag: str) -> int | str | None:
    if text is None or text == word:
        return text
    if not text.isdigit() or int(text) < 1:
        raise VlfewError(f"{flag} is a number from 1 up, or {word!r}, not {text!r}")
    return int(text)


def number_or(word: str, text: str | None, flag: str) -> float | str | None:
    if text is None or text == word:
        return text
    try:
        return float(text)
    except ValueError:
        raise VlfewError(f"{flag} is a number, or {word!r}, not {text!r}") from None


def numbers(text: str, flag: str) -> list[int]:
    if not all(part.isdigit() for part in text.split(",")):
        raise VlfewError(f"{flag} takes ascending numbers such as 1,2,4,8,16, not {text!r}")
    return [int(part) for part in text.split(",")]


def data_options(
    name: str, preprocessor: ImagePreprocessor, options: list[str]
) -> tuple[ImagePreprocessor, dict[str, Any]]:
    """What `--set` says: how these data's images are framed, and the options of their source.

    A model wants images of its size and channels, but how much of an image is background is a matter
    of the data.
    """
    from dataclasses import replace

    from pydantic import create_model

    from vlfew.core.config import Center, Resize
    from vlfew.core.config_file import parse_values
    from vlfew.data.sources import SOURCES

    schema = create_model(
        "options",
        __base__=SOURCES.options(name),
        center_crop=(Center, preprocessor.center_crop),
        resize=(Resize, preprocessor.resize),
    )
    asked = parse_values(options, schema, f"data source {name!r}")
    framing = {key: asked.pop(key) for key in ("center_crop", "resize") if key in asked}
    return replace(preprocessor, **framing), asked


def data_for(
    run: str, preprocessor: ImagePreprocessor, name: str | None, root: Path | None, options: list[str]
) -> tuple[LabeledImages, dict[str, Any]]:
    """The data to evaluate on, read as the run read them where they are the run's own; and what it
    was trained on."""
    from dataclasses import replace

    from vlfew.core.config_file import load_config
    from vlfew.data.sources import load_data
    from vlfew.models.serialization import read_metadata
    from vlfew.training.run_folder import RunFolder

    folder = RunFolder(Path(run))
    metadata = read_metadata(folder.path) if folder.path.is_dir() else {}
    own = load_config(folder.config).data if folder.config.is_file() else None
    if own is not None and name in (None, own.name):
        # Its own seed and options: another split would put classes it was trained on into the test.
        preprocessor = replace(preprocessor, on_bad_image=own.on_bad_image, seed=own.split_seed)
        preprocessor, asked = data_options(own.name, preprocessor, options)
        return load_data(own.name, root or own.root, preprocessor, **own.options | asked), metadata
    if name is None:
        raise VlfewError(f"{run} does not say what it was trained on: name the data with --data")
    preprocessor, asked = data_options(name, preprocessor, options)
    return load_data(name, root, preprocessor, **asked), metadata
