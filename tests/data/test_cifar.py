"""CIFAR-FS and FC100: the published splits, over CIFAR-100 in every form that it comes in."""

import os
import pickle
import struct
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import real_data
from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.cifar_pickles import read_part
from vlfew.data.class_names import display_name
from vlfew.data.class_split import read_class_list
from vlfew.data.data_root import find_data
from vlfew.data.prepare import download, prepare

READING = ImagePreprocessor(image_size=32, channels=3)
SOURCES = ("cifar_fs", "fc100")
CLASSES = sorted(entry.name for entry in read_class_list("cifar_fs"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "huggingface")


def pixels(name: str, test: bool) -> np.ndarray:
    """An image whose red tells the class, with blue below in test images."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :, 0] = CLASSES.index(name)
    image[16:, :, 2] = 255 * test
    return image


# Pickles as Python 2 wrote them: every string is bytes, arrays are made by `numpy.core`.


def text(value: str | bytes) -> bytes:
    content = value.encode("latin1") if isinstance(value, str) else value
    return b"U" + bytes([len(content)]) + content if len(content) < 256 else (
        b"T" + struct.pack("<i", len(content)) + content
    )  # fmt: skip


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def array(values: np.ndarray) -> bytes:
    shape = number(values.shape[0]) + number(values.shape[1]) + b"\x86"
    kind = b"cnumpy\ndtype\n(" + text("u1") + number(0) + number(1) + b"tR"
    kind += b"(" + number(3) + text("|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    made = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85" + text("b") + b"tR"
    )
    return made + b"(" + number(1) + shape + kind + b"\x89" + text(values.tobytes()) + b"tb"


def listed(items: Iterable[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def dictionary(**items: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


def part(names: list[str], test: bool) -> dict[str, Any]:
    rows = np.stack([pixels(name, test).transpose(2, 0, 1).reshape(-1) for name in names])
    return {
        "filenames": [f"{name}_s_{'1' if test else '0'}.png" for name in names],
        "fine_labels": [CLASSES.index(name) for name in names],
        "data": rows,
    }


def by_python_2(content: dict[str, Any]) -> bytes:
    return dictionary(
        filenames=listed(map(text, content["filenames"])),
        batch_label=text("testing batch 1 of 1"),
        fine_labels=listed(map(number, content["fine_labels"])),
        data=array(content["data"]),
    )


def make_pickles(root: Path, by: Callable[[dict[str, Any]], bytes] = by_python_2) -> Path:
    root.mkdir(parents=True)
    (root / "train").write_bytes(by(part(CLASSES, False)))
    (root / "test").write_bytes(by(part(CLASSES[::-1], True)))
    (root / "meta").write_bytes(dictionary(fine_label_names=listed(map(text, CLASSES))))
    return root


def make_folders(root: Path, parts: tuple[str, str] = ("train", "test")) -> Path:
    for test, name in enumerate(parts):
        for c in CLASSES:
            folder = root / name / c
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(c, bool(test))).save(folder / f"{c}_s_{test}.png")
    return root


def huggingface() -> Any:
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as Feature

    features = Features(
        {"img": Feature(), "fine_label": ClassLabel(names=CLASSES), "coarse_label": ClassLabel(names=["x"])}
    )
    parts = {}
    for test, name in enumerate(("train", "test")):
        images = [Image.fromarray(pixels(c, bool(test))) for c in CLASSES]
        columns = {"img": images, "fine_label": list(range(100)), "coarse_label": [0] * 100}
        parts[name] = Dataset.from_dict(columns, features=features)
    return DatasetDict(parts)


def make_parquet(root: Path) -> Path:
    root.mkdir()
    for name, rows in huggingface().items():
        rows.to_parquet(root / f"{name}-00000-of-00001.parquet")
    return root


def make_saved(root: Path) -> Path:
    huggingface().save_to_disk(root)
    return root


FORMS: dict[str, Callable[[Path], Path]] = {
    "pickles": make_pickles,
    "pickles below": lambda root: make_pickles(root / "cifar-100-python").parent,
    "pickles of Python 3": lambda root: make_pickles(root, lambda content: pickle.dumps(content, 2)),
    "folders": make_folders,
    "one folder a class": lambda root: make_folders(root, (".", ".")),
    "parquet": make_parquet,
    "saved": make_saved,
}


@pytest.mark.parametrize("name, counts", [("cifar_fs", (64, 16, 20)), ("fc100", (60, 20, 20))])
def test_the_lists_are_the_published_ones(name: str, counts: tuple[int, ...]) -> None:
    entries = read_class_list(name)
    assert tuple(Counter(e.split for e in entries).values()) == counts
    assert sorted(e.name for e in entries) == CLASSES and len(set(CLASSES)) == 100
    superclass = {e.name: e.group for e in read_class_list("cifar_fs")}
    assert {e.name: e.group for e in entries} == superclass
    assert set(Counter(superclass.values()).values()) == {5} and len(set(superclass.values())) == 20


def test_no_superclass_of_fc100_is_in_two_splits() -> None:
    splits = defaultdict(set)
    for entry in read_class_list("fc100"):
        splits[entry.group].add(entry.split)
    assert all(len(of_group) == 1 for of_group in splits.values())
    assert splits["people"] == splits["insects"] == {"test"} and splits["small_mammals"] == {"val"}


def check(data: LabeledImages, name: str) -> None:
    """Every image has the class that it shows, in the split that the list says."""
    images = data.images.batch(torch.arange(200))
    reds = images[:, 0, 0, 0].tolist()
    assert [data.class_names[c] for c in data.labels.tolist()] == [display_name(CLASSES[r]) for r in reds]
    assert sorted(zip(reds, images[:, 2, 20, 0].tolist(), strict=True)) == [
        (c, blue) for c in range(100) for blue in (0, 255)
    ]
    for split, index in data.splits.items():
        listed_names = {display_name(e.name) for e in read_class_list(name) if e.split == split}
        assert {data.class_names[c] for c in data.labels[index].tolist()} == listed_names
    assert sum(len(index) for index in data.splits.values()) == 200
    assert data.names_are_text and "aquarium fish" in data.class_names and data.name == name
    group = data.class_group
    assert group is not None and data.group_names[group[data.class_names.index("trout")]] == "fish"
    assert data.note == "200 of 60,000 images at hand"


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str, name: str, tmp_path: Path) -> None:
    root = FORMS[form](tmp_path / "cifar")
    for limit in (10, 0):
        data = load_data(name, root, READING, memory_limit_mb=limit)
        check(data, name)
        if data.image_names:
            shown = [CLASSES[r] for r in data.images.batch(torch.arange(200))[:, 0, 0, 0].tolist()]
            assert [n.rpartition("_s_")[0] for n in data.image_names] == shown


def test_the_fingerprint_knows_the_split_not_the_place(tmp_path: Path) -> None:
    for form in ("pickles", "folders", "parquet"):
        first = FORMS[form](tmp_path / form)
        told = {name: load_data(name, first, READING).fingerprint for name in SOURCES}
        moved = first.rename(tmp_path / f"{form} moved")
        assert told == {name: load_data(name, moved, READING).fingerprint for name in SOURCES}
        assert len(set(told.values())) == 2


class Evil:
    """What a pickle can be made to do: run a command."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("which", ["train", "test", "meta"])
@pytest.mark.parametrize("how", ["system", "eval", "getattr"])
def test_a_pickle_that_runs_something_is_refused(which: str, how: str, tmp_path: Path) -> None:
    root, trace = make_pickles(tmp_path / "cifar"), tmp_path / "trace"
    evil = {
        "system": Evil(os.system, f"touch {trace}"),
        "eval": Evil(eval, f"open({str(trace)!r}, 'w')"),
        "getattr": Evil(getattr, dict, "get"),
    }[how]
    (root / which).write_bytes(pickle.dumps({"data": evil, "fine_label_names": [evil]}, 2))
    with pytest.raises(
        DataError, match=rf"{which}: not a pickle of CIFAR-100: refused: it asks for \S+"
    ) as caught:
        load_data("fc100", root, READING)
    assert not trace.exists() and "\n" not in str(caught.value)


def test_what_is_in_a_pickle_is_checked(tmp_path: Path) -> None:
    good = part(CLASSES[:3], False)
    for change, message in (
        ({"data": None}, "expected data, an array"),
        ({"data": good["data"][:, :100]}, "rows of 3,072"),
        ({"data": good["data"].astype(np.int16)}, "rows of 3,072"),
        ({"data": np.asfortranarray(good["data"])}, "rows of 3,072"),
        ({"fine_labels": [1, 2]}, "expected fine_labels, 3 numbers"),
        ({"fine_labels": [1, 2, 100]}, "expected fine_labels"),
        ({"fine_labels": [1, 2, "3"]}, "expected fine_labels"),
        ({"filenames": ["a"]}, "expected filenames, 3 names"),
    ):
        (tmp_path / "train").write_bytes(pickle.dumps(good | change, 2))
        with pytest.raises(DataError, match=message):
            read_part(tmp_path / "train")
    (tmp_path / "train").write_bytes(pickle.dumps([good], 2))
    with pytest.raises(DataError, match="expected a dictionary"):
        read_part(tmp_path / "train")


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_pickles_never_end_in_a_traceback(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = bytearray(by_python_2(part(CLASSES[:1], False))[:400])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged: ") as caught:
        read_part(path)
    assert "\n" not in str(caught.value)


def test_a_part_of_the_images_and_bad_ones(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "cifar")
    bad = root / "train" / "apple" / "apple_s_0.png"
    bad.write_bytes(b"text")
    with pytest.raises(DataError, match=r"apple_s_0\.png: cannot be read"):
        load_data("fc100", root, READING)
    for path in (root / "test").rglob("*.png"):
        path.unlink()
    data = load_data("fc100", root, ImagePreprocessor(32, 3, on_bad_image="skip"))
    assert data.note == "99 of 60,000 images at hand" and data.skipped == ("train/apple/apple_s_0.png",)
    assert len(data.image_names) == len(data.labels) == 99


def test_what_is_no_cifar_100_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no CIFAR-100 in it: neither train, test and meta"):
        load_data("cifar_fs", tmp_path / "empty", READING)
    root = make_folders(tmp_path / "cifar")
    (root / "train" / "apple").rename(root / "train" / "aple")
    with pytest.raises(DataError, match=r"cifar_fs: there is no class 'aple'; did you mean 'apple'\?"):
        load_data("cifar_fs", root, READING)
    pickles = make_pickles(tmp_path / "pickles")
    (pickles / "test").unlink()
    with pytest.raises(DataError, match=r"test: cannot be read: No such file"):
        load_data("cifar_fs", pickles, READING)
    (pickles / "meta").write_bytes(dictionary(fine_label_names=listed([text("apple")])))
    with pytest.raises(DataError, match=r"meta: expected fine_label_names, a list of 100 names"):
        load_data("cifar_fs", pickles, READING)
    rows = huggingface()["train"].rename_column("fine_label", "label")
    rows.save_to_disk(tmp_path / "other")
    with pytest.raises(DataError, match="no column 'fine_label'"):
        load_data("cifar_fs", tmp_path / "other", READING)


def make_archive(path: Path) -> Path:
    folder = make_pickles(path.parent / "cifar-100-python")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("name", SOURCES)
def test_one_folder_serves_both(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLFEW_DATA", raising=False)
    with pytest.raises(
        DataError, match=rf"no data for '{name}': looked in \S+/cifar100; .*prepare {name} --from"
    ):
        load_data(name)
    target = prepare(name, make_archive(tmp_path / "cifar-100-python.tar.gz"))
    assert target == tmp_path / "cache" / "vlfew" / "data" / "cifar100"
    for source in SOURCES:
        assert find_data(source) == target
        check(load_data(source, preprocessor=READING), source)
    other = next(source for source in SOURCES if source != name)
    with pytest.raises(DataError, match="cifar100 is there already"):
        prepare(other, tmp_path / "cifar-100-python.tar.gz")
    monkeypatch.setenv("VLFEW_DATA", str(target.parent))
    check(load_data(other, preprocessor=READING), other)


@pytest.mark.parametrize("kept", ["train", "test"])
def test_a_lone_part_is_prepared(kept: str, tmp_path: Path) -> None:
    root = make_folders(tmp_path / "cifar")
    (root / {"train": "test", "test": "train"}[kept]).rename(tmp_path / "aside")
    assert (prepare("fc100", root, tmp_path / "there") / kept / "apple").is_dir()


class FakeCIFAR100:
    """Stands in for torchvision's class: leaves what it would leave."""

    base_folder = "cifar-100-python"
    filename = "cifar-100-python.tar.gz"
    url = "https://example.org/cifar-100-python.tar.gz"

    def __init__(self, root: Path, download: bool) -> None:
        make_archive(Path(root) / self.filename)


class Offline(FakeCIFAR100):
    def __init__(self, root: Path, download: bool) -> None:
        raise URLError("no route to host")


def test_download_says_what_and_leaves_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VLFEW_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.CIFAR100", Offline)
    with pytest.raises(DataError, match=r"no route to host.*by hand.*prepare cifar_fs --from ARCHIVE"):
        download("cifar_fs")
    assert not any((tmp_path / "cache" / "vlfew" / "data").iterdir())
    monkeypatch.setattr("torchvision.datasets.CIFAR100", FakeCIFAR100)
    assert sorted(p.name for p in download("fc100").iterdir()) == ["meta", "test", "train"]
    said = capsys.readouterr().err
    assert "169 MB" in said and FakeCIFAR100.url in said
    check(load_data("cifar_fs", preprocessor=READING), "cifar_fs")


def test_all_images_are_at_hand() -> None:
    data = load_data("cifar_fs", real_data("cifar100"), READING, memory_limit_mb=0)
    assert len(data.labels) == 60_000 and data.note == ""
    assert data.labels.bincount().unique().tolist() == [600]
    assert [len(data.classes(s)) for s in ("train", "val", "test")] == [64, 16, 20]
