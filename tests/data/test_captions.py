"""Images with captions: both file formats, and every mistake reported in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)
ROWS = [(f"in/{n}.png", f"a thing of kind {n}") for n in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "captioned"
    (root / "in").mkdir(parents=True)
    for n in range(10):
        Image.new("RGB", (10, 10), (20 * n, 0, 0)).save(root / "in" / f"{n}.png")
    return root


def load(root: Path, **options: Any) -> LabeledImages:
    return load_data("captions", root, PREPROCESSOR, **options)


def write_csv(root: Path, rows: list[tuple[str, ...]], header: str = "file,caption") -> None:
    lines = [header, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    (root / "captions.csv").write_text("\n".join(lines) + "\n")


def test_every_image_is_a_class_with_its_captions_as_texts(folder: Path) -> None:
    write_csv(folder, [*ROWS, ("./in/3.png", "another view, of the same"), ("in/4.png", "a thing of kind 3")])
    data = load(folder)
    assert data.image_names == tuple(name for name, _ in ROWS) and all(data.class_texts)
    assert data.class_texts[3] == ("a thing of kind 3", "another view, of the same")
    assert data.class_names[3] == "a thing of kind 3" and data.class_names[5] == "a thing of kind 5"
    assert data.labels.tolist() == list(range(10))
    for n in range(10):
        assert int(data.images.batch(data.labels == n)[0, 0, 0, 0]) == 20 * n
    assert sorted(torch.cat(list(data.splits.values())).tolist()) == list(range(10))
    assert {split: len(index) for split, index in data.splits.items()} == {"train": 6, "val": 2, "test": 2}


def test_images_with_the_same_caption_have_distinct_names(folder: Path) -> None:
    write_csv(folder, [(name, "the same") for name, _ in ROWS])
    assert load(folder).class_names[:2] == ("the same (in/0.png)", "the same (in/1.png)")


def test_json_lines_and_given_splits(folder: Path) -> None:
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    rows = [{"file": f, "caption": c, "split": s} for (f, c), s in zip(ROWS, splits, strict=True)]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = load(folder)
    assert {split: index.tolist() for split, index in data.splits.items()} == {
        "train": [0, 1, 2, 3, 4, 5],
        "val": [6, 7],
        "test": [8, 9],
    }
    assert data.note == ""


def test_the_fingerprint_covers_captions_and_splits(folder: Path) -> None:
    write_csv(folder, ROWS)
    first = load(folder).fingerprint
    assert load(folder).fingerprint == first != load(folder, test_fraction=0.4).fingerprint
    write_csv(folder, [*ROWS, ("in/0.png", "more")])
    assert load(folder).fingerprint != first


def test_images_without_captions_are_set_aside(folder: Path) -> None:
    write_csv(folder, ROWS[:7])
    data = load(folder)
    assert len(data.images) == 7 and data.set_aside == ("in/7.png", "in/8.png", "in/9.png")


def test_an_unreadable_image_is_named_or_skipped(folder: Path) -> None:
    write_csv(folder, ROWS)
    (folder / "in" / "4.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"in/4\.png: cannot be read"):
        load(folder)
    data = load_data("captions", folder, ImagePreprocessor(image_size=8, channels=3, on_bad_image="skip"))
    assert data.skipped == ("in/4.png",) and len(data.class_texts) == len(data.labels) == 9
    assert data.class_texts[4] == ("a thing of kind 5",)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            [("in/17.png", "x")],
            "file,caption",
            r"captions\.csv:2: no image 'in/17\.png'.*did you mean",
        ),
        ([("../in/1.png", "x")], "file,caption", r"captions\.csv:2: no image"),
        ([("in/1.png", " ")], "file,caption", r"captions\.csv:2: the caption of in/1\.png is empty"),
        ([*ROWS, ROWS[2]], "file,caption", r"captions\.csv:12: in/2\.png already has this caption"),
        (ROWS, "image,caption", r"captions\.csv:2: no 'file': file and caption are needed, got image"),
        (ROWS, "file,text", r"captions\.csv:2: no 'caption'"),
        ([], "file,caption", r"captions\.csv: contains no captions"),
        (
            [("in/1.png", "x", "tset")],
            "file,caption,split",
            r"csv:2: unknown split 'tset'; did you mean 'test'",
        ),
        (
            [("in/1.png", "x", "test"), ("in/1.png", "y", "train")],
            "file,caption,split",
            r"csv:3: in/1\.png is in split 'train' here and in 'test' above",
        ),
        (
            [("in/1.png", "x", "test"), ("in/2.png", "y", "")],
            "file,caption,split",
            r"in/2\.png has no split, but others have one",
        ),
    ],
)
def test_mistakes_in_caption_files_are_reported(
    folder: Path, rows: list[tuple[str, ...]], header: str, message: str
) -> None:
    write_csv(folder, rows, header)
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_comma_outside_quotes_never_truncates_a_caption(folder: Path) -> None:
    (folder / "captions.csv").write_text("file,caption\nin/0.png,a thing, on a mat\n")
    with pytest.raises(
        DataError,
        match=r"captions.csv:2: 3 columns, but the header has 2; put texts with commas in double quotes",
    ):
        load(folder)


def test_exactly_one_caption_file_is_needed(folder: Path) -> None:
    with pytest.raises(DataError, match=r"neither captions\.csv nor captions\.jsonl"):
        load(folder)
    write_csv(folder, ROWS)
    (folder / "captions.jsonl").write_text('{"file": 3, "caption": "x"}\n')
    with pytest.raises(DataError, match=r"both .* keep one"):
        load(folder)
    (folder / "captions.csv").unlink()
    with pytest.raises(DataError, match=r"captions\.jsonl:1: 'file' is 3, but must be one text"):
        load(folder)


def test_a_list_of_captions_in_one_json_line_is_rejected(folder: Path) -> None:
    (folder / "captions.jsonl").write_text(json.dumps({"file": "in/1.png", "caption": ["x", "y"]}))
    with pytest.raises(
        DataError, match=r"'caption' is \['x', 'y'\], but must be one text; give each its own row"
    ):
        load(folder)
