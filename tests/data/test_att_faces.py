"""AT&T faces from folders and archives: folds of people, splits by image, and error messages."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import real_data
from vlfew.core.errors import DataError, VlfewError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.decode import read_image

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=1)


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLFEW_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def face(person: int, number: int) -> bytes:
    """A distinct image of 9x11 gray pixels, as a PGM file."""
    pixels = np.random.default_rng(100 * person + number).integers(0, 256, (11, 9), np.uint8)
    return b"P5\n9 11\n255\n" + pixels.tobytes()


def make_folder(folder: Path, people: int = 40) -> Path:
    for person in range(1, people + 1):
        (folder / f"s{person}").mkdir(parents=True)
        for number in range(1, 11):
            (folder / f"s{person}" / f"{number}.pgm").write_bytes(face(person, number))
    (folder / "README").write_text("about")
    return folder


def zipped(folder: Path, archive: Path, inside: str = "") -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, inside + path.relative_to(folder).as_posix())
    return archive


@pytest.fixture
def folder(data_root: Path) -> Path:
    """A data root with `att_faces/s1/1.pgm` and so on."""
    return make_folder(data_root / "att_faces")


def people(data: LabeledImages, split: str) -> set[str]:
    return {data.class_names[c] for c in data.classes(split).tolist()}


LAYOUTS: dict[str, Callable[[Path, Path], object]] = {
    "a folder inside": lambda source, root: shutil.copytree(source, root / "att_faces" / "orl_faces"),
    "the archive inside": lambda source, root: zipped(
        source, root / "att_faces" / "orl_faces.zip", "orl_faces/"
    ),
    "an archive inside": lambda source, root: zipped(source, root / "att_faces" / "att_faces.zip"),
    "the folder next to it": lambda source, root: shutil.copytree(source, root / "orl_faces"),
    "the archive next to it": lambda source, root: zipped(source, root / "orl_faces.zip", "orl_faces/"),
    "another archive next to it": lambda source, root: zipped(
        source, root / "att_faces.zip", "faces/att_faces/"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_data(layout: str, tmp_path: Path, data_root: Path) -> None:
    source = make_folder(tmp_path / "made", people=39)
    folders = load_data("att_faces", source, PREPROCESSOR)
    data_root.mkdir()
    LAYOUTS[layout](source, data_root)
    data = load_data("att_faces", None, PREPROCESSOR)
    assert data.fingerprint == folders.fingerprint and data.class_names == folders.class_names
    assert torch.equal(data.images.tensor, folders.images.tensor)
    assert data.image_names == folders.image_names
    named = load_data("att_faces", data_root / ("att_faces" if "inside" in layout else ""), PREPROCESSOR)
    assert named.fingerprint == data.fingerprint


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_images_names_and_numbers_match(folder: Path, resize: str) -> None:
    preprocessor = ImagePreprocessor(8, 1, resize)
    data = load_data("att_faces", None, preprocessor)
    assert data.class_names == tuple(f"s{n}" for n in range(1, 41)) and not any(data.class_texts)
    assert data.note == "" and len(data.images) == len(data.image_names) == 400
    assert data.source_id.tolist() == list(range(1, 11)) * 40
    for n in (0, 9, 17, 399):
        name = data.image_names[n]
        assert name == f"{data.class_names[data.labels[n]]}/{data.source_id[n]}.pgm"
        assert torch.equal(data.images.batch(torch.tensor([n]))[0], read_image(folder / name, preprocessor))


def test_four_folds_have_ten_disjoint_people_each(folder: Path) -> None:
    folds = [load_data("att_faces", None, PREPROCESSOR, fold=fold) for fold in (1, 2, 3, 4)]
    tens = [people(data, "test") for data in folds]
    assert [len(ten) for ten in tens] == [10] * 4 and len(set.union(*tens)) == 40
    for data, ten in zip(folds, tens, strict=True):
        assert people(data, "train") == set(data.class_names) - ten and "val" not in data.splits
        assert data.split_by == "class" and len(data.splits["test"]) == 100
    assert len({data.fingerprint for data in folds}) == 4
    assert tens[0] == people(load_data("att_faces", None, PREPROCESSOR), "test")
    others = [
        people(load_data("att_faces", None, ImagePreprocessor(8, 1, seed=s)), "test") for s in range(1, 4)
    ]
    assert len({frozenset(ten) for ten in [tens[0], *others]}) == 4


def test_validation_people_come_from_outside_the_fold(folder: Path) -> None:
    data = load_data("att_faces", None, PREPROCESSOR, fold=2, validation_people=6)
    sizes = {split: len(people(data, split)) for split in data.splits}
    assert sizes == {"train": 24, "val": 6, "test": 10}
    assert people(data, "test") == people(load_data("att_faces", None, PREPROCESSOR, fold=2), "test")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        data.check_disjoint_classes(one, other)


def test_split_by_images_shares_people_but_not_images(folder: Path) -> None:
    def drawn(seed: int) -> LabeledImages:
        return load_data("att_faces", None, ImagePreprocessor(8, 1, seed=seed), split="images")

    data = drawn(0)
    assert data.split_by == "image" and list(data.splits) == ["train", "test"]
    for split, count in (("train", 8), ("test", 2)):
        assert Counter(data.labels[data.splits[split]].tolist()) == dict.fromkeys(range(40), count)
    assert sorted(torch.cat(list(data.splits.values())).tolist()) == list(range(400))
    # Not the same two images of every person.
    assert len(set(data.source_id[data.splits["test"]].tolist())) == 10
    assert torch.equal(data.splits["test"], drawn(0).splits["test"])
    assert not torch.equal(data.splits["test"], drawn(1).splits["test"])
    assert len({drawn(0).fingerprint, drawn(1).fingerprint, load_data("att_faces").fingerprint}) == 3


def test_a_changed_image_changes_the_fingerprint(folder: Path) -> None:
    before = load_data("att_faces", None, PREPROCESSOR).fingerprint
    assert load_data("att_faces", None, ImagePreprocessor(16, 3, "crop")).fingerprint == before
    (folder / "s7" / "3.pgm").write_bytes(face(1, 1))  # of the same size in bytes
    assert load_data("att_faces", None, PREPROCESSOR).fingerprint != before


def test_an_incomplete_data_set_is_noted_and_keeps_its_folds(folder: Path) -> None:
    complete = load_data("att_faces", None, PREPROCESSOR)
    ten = sorted(people(complete, "test"))
    shutil.rmtree(folder / ten[0])
    (folder / ten[1] / "4.pgm").unlink()
    data = load_data("att_faces", None, PREPROCESSOR)
    assert data.note == "39 of 40 people, 389 of 400 images available"
    assert people(data, "test") == set(ten[1:])
    assert people(data, "train") == people(complete, "train")
    for name in ten[1:]:
        shutil.rmtree(folder / name)
    with pytest.raises(DataError, match="none of the 10 people of fold 1 is available"):
        load_data("att_faces", None, PREPROCESSOR)
    for number in range(3, 11):
        (folder / sorted(people(complete, "train"))[0] / f"{number}.pgm").unlink()
    with pytest.raises(DataError, match=r"person s\d+ has 2 of 10 images available"):
        load_data("att_faces", None, PREPROCESSOR, split="images")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "fold=0; input should be greater than or equal to 1"),
        ({"fold": 5}, "fold=5; input should be less than or equal to 4"),
        ({"validation_people": 30}, "validation_people=30 of the 30 people outside fold 1"),
        ({"validation_people": -1}, "validation_people=-1"),
        ({"split": "images", "fold": 2}, "for split=people; leave them out"),
        ({"split": "images", "validation_people": 3}, "for split=people; leave them out"),
    ],
)
def test_invalid_options_are_rejected(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(VlfewError, match=message):
        load_data("att_faces", None, PREPROCESSOR, **options)


def test_missing_data_are_reported(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data for 'att_faces'.*orl_faces\.zip.*prepare att_faces") as e:
        load_data("att_faces", None, PREPROCESSOR)
    assert "\n" not in str(e.value)
    (data_root / "att_faces").mkdir(parents=True)
    with pytest.raises(DataError, match=r"neither s1/1\.pgm .* nor orl_faces\.zip"):
        load_data("att_faces", None, PREPROCESSOR)
    with pytest.raises(DataError, match="is not a folder"):
        load_data("att_faces", tmp_path / "nowhere", PREPROCESSOR)


@pytest.mark.parametrize("name", ["s1/11.pgm", "s41/1.pgm", "s0/1.pgm", "cat.pgm", "s2/face.pgm"])
def test_an_unexpected_file_is_named(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(face(1, 1))
    with pytest.raises(DataError, match=f"{name} in .* is not like s1/1.pgm"):
        load_data("att_faces", None, PREPROCESSOR)


def test_a_duplicate_image_is_named(folder: Path) -> None:
    shutil.copytree(folder / "s3", folder / "more" / "s3")
    with pytest.raises(DataError, match=r"more/s3/1\.pgm and s3/1\.pgm"):
        load_data("att_faces", None, PREPROCESSOR)


@pytest.mark.parametrize(
    "content", [b"", b"this is text\n", face(1, 1)[:50]], ids=["empty", "text", "truncated"]
)
def test_an_unreadable_image_is_named_or_skipped(folder: Path, content: bytes) -> None:
    (folder / "s5" / "2.pgm").write_bytes(content)
    with pytest.raises(DataError, match=r"s5/2\.pgm: cannot be read") as e:
        load_data("att_faces", None, PREPROCESSOR)
    assert "\n" not in str(e.value)
    data = load_data("att_faces", None, ImagePreprocessor(8, 1, on_bad_image="skip"))
    assert data.skipped == ("s5/2.pgm",) and len(data.images) == len(data.source_id) == 399
    assert "s5/2.pgm" not in data.image_names and "399 of 400" in data.note


def test_a_plain_text_pgm_is_read(folder: Path) -> None:
    (folder / "s5" / "2.pgm").write_text("P2\n2 2\n255\n0 255\n255 0\n")
    data = load_data("att_faces", None, ImagePreprocessor(2, 1))
    assert data.images.tensor[data.image_names.index("s5/2.pgm"), 0].tolist() == [[0, 255], [255, 0]]


def test_damaged_and_unrelated_archives_are_rejected(data_root: Path) -> None:
    data_root.mkdir()
    with ZipFile(data_root / "orl_faces.zip", "w") as archive:
        archive.writestr("holiday/1.jpg", b"x")
    with pytest.raises(DataError, match=r"no images like s1/1\.pgm .* in .*orl_faces\.zip"):
        load_data("att_faces", None, PREPROCESSOR)
    (data_root / "orl_faces.zip").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(DataError, match=r"orl_faces\.zip: not a readable zip archive"):
        load_data("att_faces", None, PREPROCESSOR)


def test_a_damaged_image_in_an_archive_is_named(data_root: Path, tmp_path: Path) -> None:
    archive = zipped(make_folder(tmp_path / "made"), data_root / "orl_faces.zip")
    content = bytearray(archive.read_bytes())
    at = content.index(face(9, 9)[12:])
    content[at] ^= 255
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"s9/9\.pgm: cannot be read"):
        load_data("att_faces", None, PREPROCESSOR)


def test_the_real_data_set_is_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()  # back to the real data root
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = real_data("orl_faces.zip")
    data = load_data("att_faces", archive.parent, PREPROCESSOR)
    assert data.note == "" and len(data.class_names) == 40
    assert Counter(data.labels.tolist()) == dict.fromkeys(range(40), 10)
    first = next(n for n, name in enumerate(data.image_names) if name == "s17/3.pgm")
    with ZipFile(archive) as opened:
        stored = opened.read("orl_faces/s17/3.pgm")
    assert stored.startswith(b"P5") and torch.equal(
        data.images.tensor[first], read_image(stored, PREPROCESSOR)
    )


def test_text_that_looks_like_a_header_is_rejected(folder: Path) -> None:
    (folder / "s1" / "1.pgm").write_text("P5\nnine eleven\n255\n")
    with pytest.raises(DataError, match=r"s1/1\.pgm: cannot be read"):
        load_data("att_faces", None, PREPROCESSOR)
    Image.new("L", (9, 11)).save(folder / "s1" / "1.pgm")
    assert load_data("att_faces", None, PREPROCESSOR).note == ""
