"""The description and the contact sheet of a data set."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import InMemory, LabeledImages
from vlfew.data.preview import contact_sheet, describe


def data(channels: int = 3, classes: int = 30) -> LabeledImages:
    """Class n has n + 1 images, all in its own shade of red."""
    labels = torch.arange(classes).repeat_interleave(torch.arange(1, classes + 1))
    images = torch.zeros((len(labels), channels, 8, 8), dtype=torch.uint8)
    images[:, 0] = (8 * labels)[:, None, None]
    half = (labels >= classes // 2).nonzero().flatten()
    return LabeledImages(
        name="mine",
        images=InMemory(images),
        labels=labels,
        class_names=tuple(
            f"class ${n}_$ with a name that goes on and on until it has to be broken" for n in range(classes)
        ),
        names_are_text=True,
        splits={"train": (labels < classes // 2).nonzero().flatten(), "test": half, "val": labels[:0]},
        fingerprint="abc",
        source_id=labels % 4,
        skipped=("a.png", "b.png"),
        note="incomplete",
    )


def test_the_description_has_all_facts() -> None:
    facts = describe(data())
    assert json.loads(json.dumps(facts)) == facts
    assert facts["classes"] == 30 and facts["images"] == 465 and facts["shape"] == [3, 8, 8]
    assert facts["splits"]["train"] == {
        "classes": 15,
        "images": 120,
        "fewest_per_class": 1,
        "most_per_class": 15,
    }
    assert facts["splits"]["test"]["fewest_per_class"] == 16
    assert facts["splits"]["val"] == {"classes": 0, "images": 0, "fewest_per_class": 0, "most_per_class": 0}
    assert (
        facts["names_are_text"]
        and len(facts["examples"]) == 5
        and facts["examples"][0] == data().class_names[0]
    )
    assert facts["bytes_in_memory"] == 465 * 3 * 8 * 8 and facts["sources"] == 4 and facts["groups"] == 0
    assert facts["split_by"] == "class"
    assert facts["skipped"] == 2 and facts["note"] == "incomplete" and facts["fingerprint"] == "abc"


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
