"""What a data set holds: in numbers, and as a sheet of its pictures."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.data.images import LabelledImages
from vlfew.files import whole_file

_INCH = 100
"""Pixels an inch of the sheet has."""


def describe(data: LabelledImages) -> dict[str, Any]:
    """The figures of a data set, as plain values that JSON can hold.

    `splits` gives `classes`, `pictures` and the fewest and most pictures of a class.
    """
    splits = {}
    for split in data.splits:
        counts = data.labels[data.indices(split)].unique(return_counts=True)[1]
        splits[split] = {
            "classes": len(counts),
            "pictures": int(counts.sum()),
            "fewest_per_class": int(counts.min()) if len(counts) else 0,
            "most_per_class": int(counts.max()) if len(counts) else 0,
        }
    return {
        "name": data.name,
        "pictures": len(data.images),
        "shape": list(data.images.shape),
        "classes": len(data.class_names),
        "names_are_words": data.names_are_words,
        "examples": [data.class_names[n] for n in _spread(len(data.class_names), 5).tolist()],
        "texts": sum(len(texts) for texts in data.class_texts),
        "groups": len(data.group_names),
        "sources": 0 if data.source_id is None else len(data.source_id.unique()),
        "split_by": data.split_by,
        "splits": splits,
        "bytes_in_memory": data.images.nbytes,
        "fingerprint": data.fingerprint,
        "skipped": len(data.skipped),
        "note": data.note,
    }


def contact_sheet(
    data: LabelledImages, split: str, path: Path, classes: int = 20, per_class: int = 10
) -> None:
    """Writes a PNG with a row for each of some classes, spread evenly over the split.

    Args:
        data: the data set.
        split: of it.
        path: of the PNG.
        classes: rows at most.
        per_class: pictures in a row at most, spread evenly over the class.

    Raises:
        DataError: no such split.
    """
    from matplotlib.figure import Figure

    members = data.by_class(split)
    labels = [list(members)[n] for n in _spread(len(members), classes).tolist()]
    chosen = [members[label][_spread(len(members[label]), per_class)] for label in labels]
    columns = max((len(row) for row in chosen), default=1)
    _, h, w = data.images.shape
    zoom = max(1, round(64 / h))
    cell, gap = zoom * h, 6
    sheet = np.full(
        (max(1, len(chosen)) * (cell + gap) + gap, columns * (cell + gap) + gap, 3), 238, np.uint8
    )
    for r, row in enumerate(chosen):
        for c, picture in enumerate(data.images.batch(row)):
            pixels = picture.expand(3, h, w).permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)
            top, left = gap + r * (cell + gap), gap + c * (cell + gap)
            sheet[top : top + cell, left : left + zoom * w] = pixels

    names = ["\n".join(textwrap.wrap(data.class_names[n], 30, max_lines=2, placeholder=" …")) for n in labels]
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    margin, head = 24 + 7 * longest, 56
    high, wide = sheet.shape[:2]
    total = (max(wide + margin + 16, 480), high + head + 16)
    figure = Figure(figsize=(total[0] / _INCH, total[1] / _INCH), dpi=_INCH, facecolor="white")
    # One pixel of the sheet is one of the file: nothing is resampled.
    figure.figimage(sheet, margin, 16, origin="upper")
    for r, name in enumerate(names):
        middle = 16 + high - (gap + r * (cell + gap) + cell / 2)
        place = ((margin - 10) / total[0], middle / total[1])
        figure.text(*place, name, ha="right", va="center", fontsize=8.5, color="#222222", parse_math=False)
    title = f"{data.name} · {split}"
    count = f"{len(members):,} classes, {len(data.indices(split)):,} pictures; {len(labels)} classes shown"
    figure.text(
        16 / total[0], 1 - 18 / total[1], title, va="center", fontsize=11, weight="bold", parse_math=False
    )
    figure.text(16 / total[0], 1 - 38 / total[1], count, va="center", fontsize=8.5, color="#555555")
    with whole_file(path) as temporary, warnings.catch_warnings():
        # A character that the font lacks shows as a box; no other font need be there.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(temporary, format="png")


def _spread(total: int, wanted: int) -> Tensor:
    """Up to `wanted` of the numbers below `total`, evenly spread, ascending."""
    return torch.arange(min(wanted, total)) * total // max(1, min(wanted, total))
