"""The description and the contact sheet of a data set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import InMemory, LabeledImages
from vlfew.data.boxes import Boxes
from vlfew.data.preview import contact_sheet, describe


def data(channels: int = 3, classes: int = 30) -> LabeledImages:
    """Class n has n + 1 images, all in its own shade of red."""
    labels = torch.arange(classes).repeat_interleave(torch.arange(1, classes + 1))
    images = torch.zeros((len(labels), channels, 8, 8), dtype=torch.uint8)
    images[:, 0] = (8 * labels)[:, None, None]
    half = (labels >= classes // 2).nonzero().flatten()
    names = tuple(
        f"class ${n}_$ with a name that goes on and on until it has to be broken" for n in range(classes)
    )
    return LabeledImages(
        name="mine",
        images=InMemory(images),
        labels=labels,
        class_names=names,
        class_texts=tuple((name,) for name in names),
        splits={"train": (labels < classes // 2).nonzero().flatten(), "test": half, "val": labels[:0]},
        fingerprint="abc",
        source_id=labels % 4,
        skipped=("a.png", "b.png"),
        note="incomplete",
    )


def test_the_description_has_all_facts() -> None:
    lines = dict(reversed(describe(data())))
    assert lines["data"] == "mine, fingerprint abc" and lines["images"] == "465 of 3 x 8 x 8"
    assert lines["classes"] == "30" and lines["splits"] == "by class"
    assert lines["train"] == "15 classes, 120 images, 1 to 15 per class"
    assert lines["test"] == "15 classes, 345 images, 16 to 30 per class"
    assert lines["val"] == "0 classes, 0 images, 0 to 0 per class"
    assert lines["names"].startswith(f"text: {data().class_names[0]}; {data().class_names[6]}; ")
    assert lines["names"].endswith("; and 25 more") and lines["names"].count(";") == 5
    assert lines["in memory"] == "0.1 MiB decoded" and lines["note"] == "incomplete"
    assert ("note", "2 unreadable images skipped: a.png, b.png") in describe(data())
    few = dict(describe(replace(data(3, 5), skipped=(), note="", class_texts=())))
    assert few["names"].startswith("codes, not used as text: ") and "more" not in few["names"]
    assert few["note"].startswith("identical images: ")


def shades(path: Path) -> set[int]:
    """The pure shades of red on the sheet."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    return {int(r) for r, g, b in np.unique(pixels, axis=0) if g == b == 0 and r > 0}


def test_the_sheet_has_unchanged_images_evenly_spaced_over_the_split(tmp_path: Path) -> None:
    contact_sheet(data(), ["test"], tmp_path / "new" / "sheet.png", rows=5, per_class=3)
    assert shades(tmp_path / "new" / "sheet.png") == {8 * n for n in (15, 18, 21, 24, 27)}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_sheets_of_gray_color_and_empty_splits(tmp_path: Path, channels: int) -> None:
    for splits in (["train"], ["val"], ["train", "val"]):
        contact_sheet(data(channels, 4), splits, tmp_path / "sheet.png")
        assert Image.open(tmp_path / "sheet.png").width >= 480


def test_splits_share_the_rows_equally_below_their_headings(tmp_path: Path) -> None:
    contact_sheet(data(), ["train", "test"], tmp_path / "sheet.png", rows=6, per_class=3)
    assert shades(tmp_path / "sheet.png") == {8 * n for n in (5, 10, 15, 20, 25)}  # class 0 is black
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    gray = (pixels == 238).all(axis=2).sum(axis=1) > 20  # antialiased letters have fewer such pixels
    starts = np.flatnonzero(np.diff(gray.astype(int)) == 1)
    assert len(starts) == 2  # two grids, with white between them for the headings
    red = [np.flatnonzero((pixels == (8 * n, 0, 0)).all(axis=2).any(axis=1)) for n in (5, 10, 15, 20, 25)]
    assert [int(rows[0] > starts[1]) for rows in red] == [0, 0, 1, 1, 1]


def test_an_unknown_split_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'test'"):
        contact_sheet(data(), ["train", "tests"], tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []


def test_an_image_with_boxes_is_drawn_with_them_and_their_names(tmp_path: Path) -> None:
    images = torch.full((2, 1, 80, 80), 255, dtype=torch.uint8)
    boxes = Boxes(torch.tensor([[0.25, 0.25, 0.5, 0.75]]), torch.tensor([1]), torch.tensor([0]), 2)
    pages = LabeledImages(
        name="pages",
        images=InMemory(images),
        labels=torch.full((2,), -1),
        class_names=("a", "b"),
        splits={"train": torch.tensor([0, 1])},
        fingerprint="x",
        boxes=boxes,
    )
    contact_sheet(pages, ["train"], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    red = (np.abs(sheet - [230, 25, 75]).max(2) < 3).nonzero()
    # The page is shown four times as large, so the box has 160 rows and 80 columns.
    assert 158 <= np.ptp(red[0]) <= 164 and 78 <= np.ptp(red[1]) <= 84
