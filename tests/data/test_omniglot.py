"""Omniglot from folders and archives: splits by alphabet, drawers, rotations, official runs."""

import os
import shutil
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.sources.omniglot import load_runs
from vlfew.evaluation.split_episodes import split_episodes

PREPROCESSOR = ImagePreprocessor(image_size=16, channels=1)
REAL = Path(os.environ.get("VLFEW_DATA", "")) / "omniglot"
needs_real = pytest.mark.skipif(
    not (os.environ.get("VLFEW_DATA") and REAL.is_dir()), reason="no omniglot under VLFEW_DATA"
)


def drawing(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dots = np.random.default_rng(seed).random((16, 16)) < 0.5
    Image.fromarray(dots).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six background and two evaluation alphabets of three characters drawn by four people."""
    root = tmp_path / "omniglot"
    number = 0
    for part, alphabets in (("background", "ABCDEF"), ("evaluation", "XY")):
        for alphabet in alphabets:
            for character in (1, 2, 3):
                number += 1
                folder = root / f"images_{part}" / alphabet / f"character{character:02}"
                for drawer in (1, 2, 10, 20):
                    drawing(folder / f"{number:04}_{drawer:02}.png", 100 * number + drawer)
    return root


def zipped(root: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for part in root.iterdir():
        with ZipFile(target / f"{part.name}.zip", "w") as archive:
            for path in sorted(part.rglob("*.png"), reverse=True):
                archive.write(path, path.relative_to(root))
    return target


def alphabets(data: LabeledImages, split: str) -> set[str]:
    return {data.class_names[c].split("/")[0] for c in data.classes(split).tolist()}


def test_alphabets_are_never_split(root: Path) -> None:
    data = load_data("omniglot", root, PREPROCESSOR, validation_alphabets=2)
    assert alphabets(data, "test") == {"X", "Y"}
    assert len(alphabets(data, "val")) == 2 and len(alphabets(data, "train")) == 4
    assert alphabets(data, "val") | alphabets(data, "train") == set("ABCDEF")
    assert sum(len(i) for i in data.splits.values()) == len(data.images) == 96
    assert not any(data.class_texts) and data.class_names[0] == "A/character01"
    assert data.note == "24 of 1,623 characters, 96 of 32,460 drawings available"
    for name, group in zip(data.class_names, data.class_group.tolist(), strict=True):
        assert data.group_names[group] == name.split("/")[0]


def test_validation_depends_on_the_seed(root: Path) -> None:
    def drawn(seed: int) -> frozenset[str]:
        data = load_data("omniglot", root, ImagePreprocessor(16, 1, seed=seed), validation_alphabets=2)
        return frozenset(alphabets(data, "val"))

    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(12)}) > 1
    assert "val" not in load_data("omniglot", root, PREPROCESSOR, validation_alphabets=0).splits
    with pytest.raises(DataError, match=r"validation_alphabets=6 of 6"):
        load_data("omniglot", root, PREPROCESSOR, validation_alphabets=6)


def test_drawers_and_images_match(root: Path) -> None:
    data = load_data("omniglot", root, PREPROCESSOR, validation_alphabets=1)
    number = data.class_names.index("B/character02")
    index = (data.labels == number).nonzero().flatten()
    assert data.source_id[index].tolist() == [0, 1, 9, 19]
    stored = np.asarray(Image.open(root / "images_background/B/character02/0005_10.png").convert("L"))
    assert (data.images.batch(index[2:3])[0, 0].numpy() == stored).all()


def test_archives_give_the_same_data_as_folders(root: Path, tmp_path: Path) -> None:
    folders = load_data("omniglot", root, PREPROCESSOR, validation_alphabets=2)
    archives = load_data("omniglot", zipped(root, tmp_path / "zips"), PREPROCESSOR, validation_alphabets=2)
    assert folders.fingerprint == archives.fingerprint and folders.class_names == archives.class_names
    assert torch.equal(folders.images.tensor, archives.images.tensor)
    assert torch.equal(folders.source_id, archives.source_id)


@pytest.mark.parametrize("rotations, mirrors, times", [(True, False, 4), (False, True, 2), (True, True, 8)])
def test_rotated_and_mirrored_characters_are_training_classes_only(
    rotations: bool, mirrors: bool, times: int, root: Path
) -> None:
    upright = load_data("omniglot", root, PREPROCESSOR, validation_alphabets=2)
    options = {"rotations": rotations, "mirrors": mirrors, "validation_alphabets": 2}
    data = load_data("omniglot", root, PREPROCESSOR, **options)
    assert len(data.classes("train")) == times * len(upright.classes("train"))
    assert len(data.splits["train"]) == times * len(upright.splits["train"])
    for split in ("val", "test"):
        assert torch.equal(data.splits[split], upright.splits[split])
    assert data.fingerprint != upright.fingerprint
    assert len(set(data.class_names)) == len(data.class_names) == len(data.class_texts)
    members = data.by_class("train")
    changes = {f"@{90 * k}": lambda x, k=k: x.rot90(k, (2, 3)) for k in (1, 2, 3) if rotations}
    if mirrors:
        mirrored = {f"@mirror{n[1:]}": lambda x, f=f: f(x.flip(3)) for n, f in changes.items()}
        changes |= {"@mirror": lambda x: x.flip(3)} | mirrored
    assert len(changes) == times - 1
    for label in upright.classes("train").tolist():
        name, images = data.class_names[label], data.images.batch(members[label])
        for mark, change in changes.items():
            marked = name.replace("/", f"{mark}/")
            other = data.class_names.index(marked)
            assert torch.equal(data.images.batch(members[other]), change(images))
            assert torch.equal(data.source_id[members[other]], data.source_id[members[label]])
            assert data.group_names[data.class_group[other]] == marked.split("/")[0]


def test_missing_drawings_are_allowed_and_missing_parts_are_not(root: Path, tmp_path: Path) -> None:
    (root / "images_background/A/character01/0001_02.png").unlink()
    assert "95 of 32,460" in load_data("omniglot", root, PREPROCESSOR).note
    shutil.rmtree(root / "images_evaluation")
    with pytest.raises(DataError, match=r"images_evaluation\.zip"):
        load_data("omniglot", root, PREPROCESSOR)
    (root / "images_evaluation").mkdir()
    with pytest.raises(DataError, match=r"no drawings .*images_evaluation"):
        load_data("omniglot", root, PREPROCESSOR)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="images_background"):
        load_data("omniglot", tmp_path / "empty", PREPROCESSOR)
    with pytest.raises(DataError, match="not a folder"):
        load_data("omniglot", tmp_path / "nowhere", PREPROCESSOR)


def test_an_alphabet_in_both_parts_is_rejected(root: Path) -> None:
    drawing(root / "images_evaluation/C/character01/0099_01.png", 0)
    with pytest.raises(DataError, match="'C' is in both"):
        load_data("omniglot", root, PREPROCESSOR)


@pytest.mark.parametrize("name", ["cat.png", "0001_00.png", "0001_21.png"])
def test_an_unexpected_file_is_named(root: Path, name: str) -> None:
    drawing(root / "images_background/A/character01" / name, 0)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_data("omniglot", root, PREPROCESSOR)


def test_unreadable_drawings_are_named_or_skipped(root: Path) -> None:
    unreadable = root / "images_background/A/character01/0001_02.png"
    unreadable.write_bytes(b"")
    with pytest.raises(DataError, match=r"0001_02\.png"):
        load_data("omniglot", root, PREPROCESSOR)
    data = load_data("omniglot", root, ImagePreprocessor(16, 1, on_bad_image="skip"), validation_alphabets=1)
    assert len(data.skipped) == 1 and data.skipped[0].endswith("0001_02.png") and len(data.images) == 95
    assert data.source_id[data.labels == 0].tolist() == [0, 9, 19]


def test_a_damaged_archive_is_named(root: Path) -> None:
    shutil.rmtree(root / "images_evaluation")
    (root / "images_evaluation.zip").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(DataError, match=r"images_evaluation\.zip: not a readable zip archive"):
        load_data("omniglot", root, PREPROCESSOR)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of three characters; each test image equals its training image."""
    folder = tmp_path / "runs"
    for run in ("run01", "run02"):
        lines = []
        for n, answer in enumerate((2, 3, 1), 1):
            drawing(folder / run / "training" / f"class{n:02}.png", n)
            drawing(folder / run / "test" / f"item{n:02}.png", answer)
            lines.append(f"{run}/test/item{n:02}.png {run}/training/class{answer:02}.png\n")
        (folder / run / "class_labels.txt").write_text("".join(lines))
    return folder


def test_runs_have_their_answers(runs: Path, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "one_shot_runs.zip", "w") as archive:
        for path in runs.rglob("*"):
            archive.write(path, path.relative_to(runs))
    for place in (runs, tmp_path / "one_shot_runs.zip"):
        loaded = load_runs(place, PREPROCESSOR)
        assert [run.name for run in loaded] == ["run01", "run02"]
        for run in loaded:
            assert run.train.shape == run.test.shape == (3, 1, 16, 16) and run.answer.dtype == torch.int64
            assert torch.equal(run.test, run.train[run.answer]) and run.answer.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    "missing, message",
    [
        ("training/class03.png", r"run02/class_labels\.txt:2: run02/training/class03\.png is missing"),
        ("test/item03.png", r"run02/class_labels\.txt:3: run02/test/item03\.png is missing"),
        ("class_labels.txt", r"run02/class_labels\.txt is missing"),
    ],
)
def test_a_missing_file_of_a_run_is_named(runs: Path, missing: str, message: str) -> None:
    (runs / "run02" / missing).unlink()
    with pytest.raises(DataError, match=message):
        load_runs(runs, PREPROCESSOR)


@pytest.mark.parametrize(
    "lines, message",
    [
        ("run01/test/item01.png run01/training/class02.png\n", "no line for run01/test/item02"),
        ("run01/test/item01.png\n", r"class_labels\.txt:1: expected a test and a training"),
        ("run01/training/class01.png run01/test/item01.png\n", "expected a test and a training"),
    ],
)
def test_a_missing_or_malformed_line_is_named(runs: Path, lines: str, message: str) -> None:
    (runs / "run01/class_labels.txt").write_text(lines)
    with pytest.raises(DataError, match=message):
        load_runs(runs, PREPROCESSOR)


def test_damaged_images_of_runs_are_never_skipped(runs: Path, tmp_path: Path) -> None:
    (runs / "run01/test/item02.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"item02\.png"):
        load_runs(runs, ImagePreprocessor(16, 1, on_bad_image="skip"))
    with pytest.raises(DataError, match="no such folder"):
        load_runs(tmp_path / "nowhere", PREPROCESSOR)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no runNN"):
        load_runs(tmp_path / "empty", PREPROCESSOR)


@needs_real
def test_the_official_runs_have_twenty_classes_each() -> None:
    loaded = load_runs(REAL, PREPROCESSOR)
    assert len(loaded) >= 1
    for run in loaded:
        assert run.train.shape == (20, 1, 16, 16) and sorted(run.answer.tolist()) == list(range(20))


@needs_real
def test_the_real_data_set_is_complete() -> None:
    from vlfew.data.sources.omniglot import check

    classes = check(REAL)
    assert len(classes) == 1623 and all(c.drawers == tuple(range(20)) for c in classes)
    assert len({c.alphabet for c in classes if c.part == 0}) == 30
    assert len({c.alphabet for c in classes if c.part == 1}) == 20


@needs_real
def test_the_official_runs_come_from_few_drawers_and_alphabets() -> None:
    """As docs/results.md states: runs 01 to 10 have five alphabets and drawers 1 to 8, one drawer per side."""
    from vlfew.data.image_files import list_files

    def pixels(content: bytes) -> bytes:
        return np.array(Image.open(BytesIO(content))).tobytes()

    drawn = {}
    for file in list_files(REAL / "images_evaluation.zip"):
        if file.name.endswith(tuple(f"_{drawer:02}.png" for drawer in range(1, 9))):
            drawn[pixels(file.read())] = file.name.split("/")[-3], file.name[-6:-4]
    sides = defaultdict(set)
    for file in list_files(REAL / "one_shot_runs.zip"):
        if file.name.endswith(".png"):
            sides[file.name.rpartition("/")[0]].add(drawn[pixels(file.read())])
    assert len(sides) == 20 and all(len(sources) == 1 for sources in sides.values())
    assert len({alphabet for sources in sides.values() for alphabet, _ in sources}) == 5


def test_own_40_10_tests_on_any_alphabets(root: Path) -> None:
    lake = load_data("omniglot", root, PREPROCESSOR, validation_alphabets=1)
    seen = set()
    for seed in range(8):
        data = load_data(
            "omniglot", root, ImagePreprocessor(16, 1, seed=seed), split="own-40-10", validation_alphabets=1
        )
        parts = [alphabets(data, split) for split in ("train", "val", "test")]
        assert [len(part) for part in parts] == [5, 1, 2] and set.union(*parts) == set("ABCDEFXY")
        assert data.note.startswith("6 development and 2 test alphabets, not the authors' split")
        assert data.fingerprint != lake.fingerprint
        seen |= parts[2]
    assert len(seen) > 3 and seen - {"X", "Y"}  # background alphabets are tested as well


@needs_real
def test_own_40_10_of_the_real_alphabets() -> None:
    data = load_data("omniglot", REAL, PREPROCESSOR, split="own-40-10")
    counts = [len(alphabets(data, split)) for split in ("train", "val", "test")]
    if len(data.group_names) == 50:
        assert counts == [35, 5, 10]
    # Each person draws a character once, so a query and its match have different drawers.
    episodes = split_episodes(data, "test", 20, 1, 1, 352, 0)
    index = data.indices("test")
    support, query = (data.source_id[index[part]] for part in (episodes.support, episodes.query))
    assert episodes.support.shape == (352, 20, 1) and not (support == query).any()
    assert any(len(data.class_group[classes].unique()) > 1 for classes in episodes.classes)
