"""Hugging Face data sets as they lie on the disk, and which of their columns is what."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.errors import DataError, did_you_mean, first_line

if TYPE_CHECKING:
    from datasets import DatasetDict, Features


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the library's own where there is no terminal to draw them on."""
    import datasets

    shown = datasets.are_progress_bars_disabled() or sys.stderr.isatty()
    if not shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()


def open_local(place: Path, config: str | None = None) -> DatasetDict:
    """The parts of a data set on the disk; no picture is decoded.

    Args:
        place: what `save_to_disk` wrote, an image folder, a folder of parquet or arrow files, or one
            such file.
        config: which of several configurations that a folder describes.

    Raises:
        DataError: none of these.
    """
    import datasets

    try:
        with quiet():
            if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
                found: Any = datasets.load_from_disk(str(place))
            elif place.is_file():
                kind = {".parquet": "parquet", ".arrow": "arrow"}[place.suffix.lower()]
                found = datasets.load_dataset(kind, data_files=str(place))
            else:
                found = datasets.load_dataset(str(place), config)
    except KeyError:
        raise DataError(f"{place}: neither a folder nor a parquet or arrow file") from None
    except Exception as error:  # the library and the readers beneath it raise many unrelated types
        raise DataError(f"{place}: cannot be read as a Hugging Face data set: {first_line(error)}") from None
    return found if isinstance(found, datasets.DatasetDict) else datasets.DatasetDict({"all": found})


def image_column(features: Features, given: str | None, who: str) -> str:
    """The column of pictures: the given one, or the only one there is.

    Raises:
        DataError: no such column, none of pictures, or several; lists the columns.
    """
    from datasets import Image

    kinds = {name: feature for name, feature in features.items() if isinstance(feature, Image)}
    return _column(features, given, list(kinds), who, "pictures", "image_column")


def label_column(features: Features, given: str | None, who: str) -> str:
    """The column of labels: the given one, or the only one of named classes, else of text or numbers.

    Raises:
        DataError: no such column, none that could hold labels, or several; lists the columns.
    """
    from datasets import ClassLabel, Value

    named = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    plain = [
        name
        for name, feature in features.items()
        if isinstance(feature, Value)
        and (feature.dtype.startswith(("int", "uint")) or "string" in feature.dtype)
    ]
    return _column(features, given, named or plain, who, "labels", "label_column")


def _column(features: Features, given: str | None, fit: list[str], who: str, what: str, option: str) -> str:
    if given is not None:
        if given not in features:
            raise DataError(f"{who}: no column {given!r}{did_you_mean(given, features)}")
        return given
    if len(fit) == 1:
        return fit[0]
    listed = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    several = f"several columns could hold the {what}" if fit else f"no column holds {what}"
    raise DataError(f"{who}: {several}: {listed}; say which with {option}")


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__
