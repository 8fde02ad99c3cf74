"""`vlfew data show`: a data set in numbers and as a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vlfew.core.config import AlignFaces, PositiveFraction, Resize
from vlfew.core.files import file_stem
from vlfew.data.loading import load_data
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.preview import contact_sheet, describe
from vlfew.data.sources import WITH_BOXES


def show_data(
    name: str,
    root: Path | None,
    source_options: Mapping[str, Any],
    *,
    image_size: Annotated[int, Field(ge=8)] | None = None,
    channels: Literal["1", "3"] = "3",
    resize: Resize = "stretch",
    center_crop: PositiveFraction = 1.0,
    align_faces: AlignFaces = "none",
    split_seed: int = 0,
    skip_bad: bool = False,
    sheet_split: str | None = None,
    sheet: Path | None = None,
) -> Iterator[tuple[str, str]]:
    """Facts about a data set, by name; draws its contact sheet after the others.

    Args:
        name: of the data source.
        root: folder of the data.
        source_options: of the data source.
        image_size: height and width in pixels; by default 84, or 320 where images may have boxes.
        channels: 1 gray, 3 color.
        resize: stretch the image to a square, or take its middle square (`crop`).
        center_crop: fraction of each side to keep.
        align_faces: take the main face of each image, turned and scaled; `when_found`, or where it is `required`.
        split_seed: seed of splits that are drawn.
        skip_bad: skip and count images that cannot be read.
        sheet_split: split to draw; by default all of them.
        sheet: contact sheet to write; by default `<name>.png`.

    Raises:
        VlfewError: unknown options; missing or damaged data.
        WriteError: the contact sheet cannot be written.
    """
    preprocessor = ImagePreprocessor(
        image_size or (320 if name in WITH_BOXES and not source_options.get("crops") else 84),
        int(channels),
        resize,
        center_crop,
        "skip" if skip_bad else "error",
        split_seed,
        align_faces=align_faces,
    )
    dataset = load_data(name, root, preprocessor, **source_options)
    yield from describe(dataset)
    yield "resized", _resizing(preprocessor)
    path = sheet or Path(f"{file_stem(name)}.png")
    contact_sheet(dataset, [sheet_split] if sheet_split else list(dataset.splits), path)
    yield "sheet", str(path)


def _resizing(preprocessor: ImagePreprocessor) -> str:
    """How images became square, and the options that change it."""
    crop = preprocessor.center_crop
    if preprocessor.align_faces != "none":
        return f"aligned faces ({preprocessor.align_faces})"
    part = "full images" if crop == 1 else f"the central {crop:.0%} of images"
    if preprocessor.resize == "stretch":
        return (
            f"{part}, stretched to a square (--resize crop takes the middle square, --center-crop 0.6 less)"
        )
    if preprocessor.resize == "pad":
        return f"{part}, made square by black borders (--resize crop takes the middle square)"
    return f"{part}, the middle square of each (--resize stretch keeps all of it)"
