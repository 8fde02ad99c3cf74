"""Describe a data set in a few lines, and draw a contact sheet of its images."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.core.files import atomic_file
from vlfew.core.plurals import counted
from vlfew.data.drawn_boxes import draw_boxes
from vlfew.data.labeled_images import LabeledImages

_INCH = 100
"""Pixels per inch of the sheet."""
_HEAD = 56
"""Height of a split heading in pixels."""


def describe(data: LabeledImages) -> list[tuple[str, str]]:
    """What there is to know about a data set: pairs of heading and text, to be read in this order."""
    classes = len(data.class_names)
    groups = f" in {counted(len(data.group_names), 'group')}" if data.group_names else ""
    shown = [name for name, texts in zip(data.class_names, data.class_texts, strict=True) if texts]
    kind, shown = ("text", shown) if shown else ("codes, not used as text", list(data.class_names))
    names = [shown[n] for n in _evenly_spaced(len(shown), 5).tolist()]
    names += [f"and {len(shown) - len(names):,} more"] * (len(shown) > len(names))
    lines = [
        ("data", f"{data.name}, fingerprint {data.fingerprint}"),
        ("images", f"{len(data.images):,} of {' x '.join(map(str, data.images.shape))}"),
        ("classes", f"{classes:,}{groups}"),
        ("names", f"{kind}: {'; '.join(names)}"),
        ("splits", f"by {data.split_by}"),
    ]
    for split in data.splits:
        if data.boxes is not None:
            lines.append((split, count_objects(data, split)))
            continue
        counts = [len(index) for index in data.by_class(split).values()]
        per_class = f"{min(counts, default=0)} to {max(counts, default=0)} per class"
        sizes = f"{counted(len(counts), 'class')}, {counted(sum(counts), 'image')}"
        lines.append((split, f"{sizes}, {per_class}"))
    lines.append(("in memory", f"{data.images.nbytes / 2**20:,.1f} MiB decoded"))
    return lines + [("note", note) for note in data.notes]


def count_objects(data: LabeledImages, split: str) -> str:
    """Of a split of images with boxes: `20 classes, 40 images, 213 objects, 0 to 14 per image`."""
    assert data.boxes is not None
    objects = data.boxes.subset(data.indices(split)).objects
    counts = objects.per_image.tolist()
    facts = [
        counted(len(objects.labels.unique()), "class"),
        counted(len(counts), "image"),
        counted(len(objects), "object"),
        f"{min(counts, default=0)} to {max(counts, default=0)} per image",
    ]
    return ", ".join(facts)


def contact_sheet(
    data: LabeledImages, splits: Sequence[str], path: Path, rows: int = 24, per_class: int = 10
) -> None:
    """Write a PNG with a heading for each split and a row of images for some of its classes.

    Where images have boxes, a row is an image with its boxes, numbered, and the names of their classes.

    Args:
        data: the data set.
        splits: from top to bottom.
        path: of the PNG.
        rows: maximum number of rows, shared equally by the splits, with evenly spaced classes; an image with boxes
            takes as much place as three.
        per_class: maximum number of images per row, evenly spaced.

    Raises:
        DataError: unknown split.
    """
    from matplotlib.figure import Figure

    if data.boxes is None:
        parts = [_part(data, split, max(1, rows // len(splits)), per_class) for split in splits]
    else:
        parts = [_boxes_part(data, split, max(1, rows // (3 * len(splits)))) for split in splits]
    names = [name for part in parts for name in part.names]
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    margin = 24 + 7 * longest
    wide = max(480, margin + max(part.pixels.shape[1] for part in parts) + 16)
    high = sum(_HEAD + len(part.pixels) for part in parts) + 16
    sheet = np.full((high, wide, 3), 255, np.uint8)
    figure = Figure(figsize=(wide / _INCH, high / _INCH), dpi=_INCH, facecolor="white")

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        figure.text(x / wide, 1 - y / high, text, va="center", fontsize=size, parse_math=False, **style)

    top = 0
    for part in parts:
        write(16, top + 18, part.title, 11, weight="bold")
        write(16, top + 38, part.count, 8.5, color="#555555")
        top += _HEAD
        sheet[top : top + len(part.pixels), margin : margin + part.pixels.shape[1]] = part.pixels
        for name, middle in zip(part.names, part.middles, strict=True):
            write(margin - 10, top + middle, name, 8.5, ha="right", color="#222222")
        top += len(part.pixels)
    # One pixel of the sheet is one pixel of the file: nothing is resampled.
    figure.figimage(sheet, 0, 0, origin="upper", zorder=-1)
    with atomic_file(path) as temporary, warnings.catch_warnings():
        # Characters missing in the font are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(temporary, format="png")


@dataclass(frozen=True)
class _Part:
    """A split on the sheet: its heading, `pixels [H, W, 3]`, and name and center of each row."""

    title: str
    count: str
    pixels: np.ndarray
    names: list[str]
    middles: list[float]


def _part(data: LabeledImages, split: str, rows: int, per_class: int) -> _Part:
    members = data.by_class(split)
    labels = [list(members)[n] for n in _evenly_spaced(len(members), rows).tolist()]
    chosen = [members[label][_evenly_spaced(len(members[label]), per_class)] for label in labels]
    columns = max((len(row) for row in chosen), default=1)
    _, h, w = data.images.shape
    zoom = max(1, round(64 / h))
    cell, gap = zoom * h, 6
    pixels = np.full((len(chosen) * (cell + gap) + gap, columns * (zoom * w + gap) + gap, 3), 238, np.uint8)
    for r, row in enumerate(chosen):
        for c, image in enumerate(data.images.batch(row)):
            drawn = image.expand(3, h, w).permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)
            top, left = gap + r * (cell + gap), gap + c * (zoom * w + gap)
            pixels[top : top + cell, left : left + zoom * w] = drawn
    sizes = f"{counted(len(members), 'class')}, {counted(len(data.indices(split)), 'image')}"
    names = ["\n".join(textwrap.wrap(data.class_names[n], 30, max_lines=2, placeholder=" …")) for n in labels]
    middles = [gap + r * (cell + gap) + cell / 2 for r in range(len(chosen))]
    return _Part(f"{data.name} · {split}", f"{sizes}; {len(labels)} shown", pixels, names, middles)


def _boxes_part(data: LabeledImages, split: str, rows: int) -> _Part:
    """Evenly spaced images of a split, each with its boxes and the names beside it."""
    assert data.boxes is not None
    index = data.indices(split)
    chosen = index[_evenly_spaced(len(index), rows)]
    _, h, w = data.images.shape
    zoom, gap = max(1, round(320 / h)), 10
    # A line of a name takes 15 pixels.
    listed = [_listed_names(data, number) for number in chosen.tolist()]
    cells = [max(zoom * h, 15 * len(names)) for names in listed]
    pixels = np.full((sum(cells) + gap * (len(cells) + 1), zoom * w + 2 * gap, 3), 238, np.uint8)
    middles, top = [], gap
    for number, image, cell in zip(chosen.tolist(), data.images.batch(chosen), cells, strict=True):
        xyxy = data.boxes.xyxy[data.boxes.rows(number)]
        drawn = draw_boxes(image, xyxy, [str(n + 1) for n in range(len(xyxy))], zoom)
        pixels[top : top + zoom * h, gap : gap + zoom * w] = drawn
        middles.append(top + cell / 2)
        top += cell + gap
    names = ["\n".join(names) for names in listed]
    return _Part(
        f"{data.name} · {split}", f"{count_objects(data, split)}; {len(chosen)} shown", pixels, names, middles
    )


def _listed_names(data: LabeledImages, number: int) -> list[str]:
    """The name of an image, and those of the classes of its boxes with their numbers."""
    assert data.boxes is not None and data.boxes.ignored is not None
    rows = data.boxes.rows(number)
    title = [textwrap.shorten(data.image_names[number], 40, placeholder=" …")] if data.image_names else []
    names = [data.class_names[label] for label in data.boxes.labels[rows].tolist()]
    marks = [" (not counted)" * ignored for ignored in data.boxes.ignored[rows].tolist()]
    return title + [
        f"{textwrap.shorten(name, 40, placeholder=' …')}{mark}  {n}"
        for n, (name, mark) in enumerate(zip(names, marks, strict=True), 1)
    ]


def _evenly_spaced(total: int, count: int) -> Tensor:
    """Up to `count` evenly spaced numbers below `total`, ascending."""
    return torch.arange(min(count, total)) * total // max(1, min(count, total))
