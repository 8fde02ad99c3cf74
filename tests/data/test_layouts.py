"""Folders and tables as people have them."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.decode import read_image, reads_heic
from vlfew.data.preview import describe
from vlfew.data.splits import split_named
from vlfew.workflows.evaluate import evaluate

NAMES = ("apple", "ball", "cup", "drum", "egg", "fork", "gate", "hat")
PREPROCESSOR = ImagePreprocessor(16, 3)


def fill(folder: Path, images: int = 3, shade: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(images):
        Image.new("RGB", (8, 8), (shade, 20 * n, crc32(folder.name.encode()) % 256)).save(folder / f"{n}.png")
    return folder


def load(root: Path, source: str = "folder", **options: Any) -> LabeledImages:
    return load_data(source, root, PREPROCESSOR, **options)


def classes(data: LabeledImages, split: str) -> set[str]:
    return {data.class_names[c] for c in data.classes(split).tolist()}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((n, "train") for n in ("train", "Train", "TRAINING", "training_set", "train-set", "train images")),
        *(
            (n, "val")
            for n in ("val", "valid", "Validation", "validation_set", "dev", "Dev_Set", "development")
        ),
        *((n, "test") for n in ("test", "Testing", "test_set", "TestSet")),
        *((n, "") for n in ("tests", "trains", "valley", "contest", "device", "", "train 2")),
    ],
)
def test_splits_in_the_spellings_people_use(name: str, split: str) -> None:
    assert split_named(name) == split


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training_set", "test_set"), ("training", "testing")]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_split_folders_and_folders_around_them(tmp_path: Path, train: str, test: str, wrapped: bool) -> None:
    """Kaggle packs `training_set/training_set/apple`."""
    for number, name in enumerate(NAMES):
        split = train if number < 5 else test
        fill(tmp_path / split / (split if wrapped else "") / name, shade=number)
    data = load(tmp_path)
    assert classes(data, "train") | classes(data, "val") == set(NAMES[:5])
    assert classes(data, "test") == set(NAMES[5:]) and data.split_by == "class"
    assert f"taken as splits: {test} (test), {train} (train)" in data.note
    assert ("the class folders are those in" in data.note) == wrapped


def test_folders_around_the_class_folders_are_looked_through(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        fill(tmp_path / "download" / "my data" / name, shade=number)
    (tmp_path / "download" / "README.txt").write_text("x")
    data = load(tmp_path)
    assert set(data.class_names) == set(NAMES) and data.set_aside == ("download/README.txt",)
    assert data.note == "the class folders are those in download/my data/"
    assert data.labels.tolist() == load(tmp_path / "download" / "my data").labels.tolist()


def test_a_class_with_subfolders_is_not_looked_through(tmp_path: Path) -> None:
    for split, names in (("train", NAMES[:4]), ("test", NAMES[4:5])):
        for name in names:
            for part in ("2019", "2020"):
                fill(tmp_path / split / name / part)
    data = load(tmp_path, val_fraction=0)
    assert classes(data, "test") == {"egg"}
    assert "such as 2019, 2020 in test/egg, are of the class 'egg'" in data.note


def test_a_folder_without_images_beside_the_splits_is_set_aside(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        fill(tmp_path / ("train" if number < 4 else "test") / name)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").write_text("x")
    assert list(load(tmp_path, val_fraction=0).notes) == ["1 file set aside: docs/readme.txt"]
    fill(tmp_path / "extra")
    with pytest.raises(DataError, match="split folder 'test' is next to 'extra'"):
        load(tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Train and test folders of the same classes."""
    for split, images in (("train", 4), ("test", 2)):
        for number, name in enumerate(NAMES):
            fill(tmp_path / split / name, images, shade=30 * number)
    return tmp_path


def test_splits_that_share_all_classes_are_split_by_image(shared: Path) -> None:
    from vlfew.models import DualStream, ModelSpec

    data = load(shared)
    assert data.split_by == "image" and set(data.splits) == {"train", "test"}
    assert classes(data, "train") == classes(data, "test") == set(NAMES)
    torch.manual_seed(0)
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, image_size=16, channels=3)
    model, options = DualStream.from_spec(spec).eval(), {"ways": "all", "queries": 2, "episodes": 5}
    result = evaluate(model, data, "few-shot", support_split="train", **options)
    assert result.options["support_split"] == "train" and 0 <= result.accuracy <= 1


def test_splits_that_share_some_classes_are_a_mistake(shared: Path) -> None:
    shutil.rmtree(shared / "train" / "hat")
    with pytest.raises(DataError, match=r"class 'apple' is in both 'test' and 'train' \(7 classes of 8\)"):
        load(shared)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def test_names_match_in_either_form_of_unicode(tmp_path: Path) -> None:
    names = ["Äpfel", "café", "drüm", "fôrk"]
    for number, name in enumerate(names):
        fill(tmp_path / "pics" / decomposed(name), shade=number)
    text = "".join(f"{name}: {name} drawing\n" for name in names)
    (tmp_path / "pics" / "classes.yaml").write_text(text)
    assert load(tmp_path / "pics").class_texts[0] == ("Äpfel drawing",)
    (tmp_path / "pics" / "classes.yaml").write_text(text + f"{decomposed('café')}: coffee\n")
    with pytest.raises(DataError, match="is listed twice; remove one"):
        load(tmp_path / "pics")
    (tmp_path / "pics" / "metadata.csv").write_text("file_name,text\ncafé/0.png,a cup\n")
    (tmp_path / "pics" / "classes.yaml").unlink()
    load(tmp_path / "pics")

    rows = "".join(f"café/{n}.png,a cup {n}\n" for n in range(3))
    (tmp_path / "pics" / "captions.csv").write_text("file,caption\n" + rows)
    assert len(load(tmp_path / "pics", "captions").images) == 3
    pairs = "first,second,same\ncafé/0.png,café/1.png,1\ncafé/0.png,drüm/0.png,0\n"
    (tmp_path / "pics" / "pairs.csv").write_text(pairs)
    assert len(load(tmp_path / "pics", "pairs").pairs["test"]) == 2


@pytest.mark.parametrize(
    "table",
    [
        "file;caption\nA/0.png;red, round\nA/1.png;blue, flat\nA/2.png;green\n",
        "file\tcaption\nA/0.png\tred, round\nA/1.png\tblue; flat\nA/2.png\tgreen\n",
        'File , Caption\nA/0.png,"red, round"\nA\\1.png,blue\n./A/2.png ,green\n',
    ],
    ids=["semicolons", "tabs", "header and paths"],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, table: str) -> None:
    fill(tmp_path / "A")
    (tmp_path / "captions.csv").write_text(table)
    data = load(tmp_path, "captions")
    assert data.image_names == ("A/0.png", "A/1.png", "A/2.png") and data.class_names[0] == "red, round"


def test_metadata_in_a_class_folder_is_read(tmp_path: Path) -> None:
    for name in NAMES:
        fill(tmp_path / name)
    (tmp_path / "apple" / "metadata.csv").write_text("file_name,text\n0.png,an apple lying\n")
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert data.class_texts[0] == ("apple", "an apple lying") and data.set_aside == ()


def test_a_pair_that_is_listed_again_counts_once(tmp_path: Path) -> None:
    for name in "ABC":
        fill(tmp_path / name)
    rows = ["A/0.png,A/1.png,1", "B/0.png,B/1.png,1", "A/0.png,B/0.png,0", "B/1.png,C/1.png,0"]
    doubled = [*rows, rows[0], "B/0.png,A/0.png,0"]
    loaded = []
    for lines in (rows, doubled):
        (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same", *lines]))
        loaded.append(load(tmp_path, "pairs"))
    once, twice = loaded
    assert len(once.pairs["test"]) == len(twice.pairs["test"]) == 4 and once.note == ""
    assert twice.note == "pairs that are listed again, counted once: line 6, line 7"
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same", *rows, "A/1.png,A/0.png,0"]))
    with pytest.raises(DataError, match=r"pairs.csv:6: this pair is listed otherwise in .*pairs.csv:2"):
        load(tmp_path, "pairs")


def test_every_suffix_that_pillow_reads(tmp_path: Path) -> None:
    folder = fill(tmp_path / "apple")
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "mpo": "MPO", "tga": "TGA", "TIF": "TIFF", "Webp": "WEBP"}
    for number, (suffix, kind) in enumerate(kinds.items()):
        Image.new("RGB", (8, 8), (40 * number + 40, 0, 200)).save(folder / f"x.{suffix}", kind)
    for name in NAMES[1:]:
        fill(tmp_path / name)
    data = load(tmp_path)
    assert len(data.images) == 8 * 3 + 6 and not data.notes


@pytest.mark.skipif(not reads_heic(), reason="pillow-heif is not installed")
def test_heic_is_read_with_its_package(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "x.heic", "HEIF")
    assert read_image(tmp_path / "x.heic", PREPROCESSOR)[0].float().mean() > 200


def test_heic_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlfew.data.decode.reads_heic", lambda: False)
    root = tmp_path / "images"
    for name in NAMES:
        fill(root / name)
    (root / "apple" / "x.HEIC").write_bytes(b"\0\0\0\x1cftypheic" + bytes(80))
    with pytest.raises(DataError, match=r"apple/x.HEIC: .* pillow-heif .*vlfew\[heic\].*on_bad_image=skip"):
        load(root)
    with pytest.raises(DataError, match=r"apple/x.HEIC: .*on_bad_image=skip"):  # decoded on demand
        store = load(root, memory_limit_mb=0).images
        store.batch(torch.arange(len(store)))
    skipping = load_data("folder", root, ImagePreprocessor(16, 3, on_bad_image="skip"))
    assert ("note", "1 unreadable image skipped: apple/x.HEIC") in describe(skipping)


@pytest.mark.parametrize(
    "row", ['1.png,"unclosed', '1.png,"a 5" screen"', '1.png,"unclosed\n2.png,closed" there']
)
def test_a_quote_that_is_not_closed(row: str, tmp_path: Path) -> None:
    """It would join rows, and their images would have no text."""
    fill(tmp_path, 4)
    (tmp_path / "captions.csv").write_text(f"file,caption\n0.png,a text\n{row}\n3.png,a text\n")
    with pytest.raises(DataError, match=r"captions.csv:\d: not CSV"):
        load(tmp_path, "captions")


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_no_text_is_no_text(text: str, tmp_path: Path) -> None:
    for name in NAMES:
        fill(tmp_path / name)
    (tmp_path / "classes.yaml").write_text(f"cup: {text}\n")
    with pytest.raises(DataError, match="'cup' needs a text or a list of texts"):
        load(tmp_path)


def test_loose_images_are_told_with_the_way_out(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    with pytest.raises(
        DataError, match=r"1 image in no folder, such as 1.png: put the images of each class into"
    ):
        load_data("folder", tmp_path, ImagePreprocessor(8, 1))
    (tmp_path / "metadata.csv").write_text("file_name,text\n1.png,a cat\n")
    with pytest.raises(DataError, match="where each has a caption of its own, use the source captions"):
        load_data("folder", tmp_path, ImagePreprocessor(8, 1))
