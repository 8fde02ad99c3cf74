"""CIFAR-FS and FC100: the published splits of CIFAR-100 in every supported format."""

import os
import pickle
import struct
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import real_data
from vlfew.core.errors import ConfigError, DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.cifar_pickles import read_part
from vlfew.data.class_names import display_name
from vlfew.data.class_split import read_class_list
from vlfew.data.data_root import find_data
from vlfew.data.prepare import download, prepare
from vlfew.data.wordnet import TextSource, read_wordnet_numbers, wordnet_definitions

PREPROCESSOR = ImagePreprocessor(image_size=32, channels=3)
SOURCES = ("cifar_fs", "fc100")
CLASSES = sorted(entry.name for entry in read_class_list("cifar_fs"))


@pytest.fixture(autouse=True)
def own_huggingface_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "huggingface")


def pixels(name: str, test: bool) -> np.ndarray:
    """An image whose red encodes the class; test images have a blue lower half."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :, 0] = CLASSES.index(name)
    image[16:, :, 2] = 255 * test
    return image


# Pickles as written by Python 2: strings are bytes, and `numpy.core` creates arrays.


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
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85" + text("b") + b"tR"
    )
    return empty + b"(" + number(1) + shape + kind + b"\x89" + text(values.tobytes()) + b"tb"


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


FORMATS: dict[str, Callable[[Path], Path]] = {
    "pickles": make_pickles,
    "pickles in a subfolder": lambda root: make_pickles(root / "cifar-100-python").parent,
    "pickles of Python 3": lambda root: make_pickles(root, lambda content: pickle.dumps(content, 2)),
    "folders": make_folders,
    "one folder per class": lambda root: make_folders(root, (".", ".")),
    "parquet": make_parquet,
    "saved": make_saved,
}


@pytest.mark.parametrize("name, counts", [("cifar_fs", (64, 16, 20)), ("fc100", (60, 20, 20))])
def test_class_lists_match_the_publications(name: str, counts: tuple[int, ...]) -> None:
    entries = read_class_list(name)
    assert tuple(Counter(e.split for e in entries).values()) == counts
    assert sorted(e.name for e in entries) == CLASSES and len(set(CLASSES)) == 100
    superclass = {e.name: e.group for e in read_class_list("cifar_fs")}
    assert {e.name: e.group for e in entries} == superclass
    assert set(Counter(superclass.values()).values()) == {5} and len(set(superclass.values())) == 20


def test_superclasses_of_fc100_are_in_one_split_each() -> None:
    splits = defaultdict(set)
    for entry in read_class_list("fc100"):
        splits[entry.group].add(entry.split)
    assert all(len(of_group) == 1 for of_group in splits.values())
    assert splits["people"] == splits["insects"] == {"test"} and splits["small_mammals"] == {"val"}


def check(data: LabeledImages, name: str) -> None:
    """Check that every image has the class that its pixels encode, in the published split."""
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
    assert all(data.class_texts) and "aquarium fish" in data.class_names and data.name == name
    group = data.class_group
    assert group is not None and data.group_names[group[data.class_names.index("trout")]] == "fish"
    assert data.note == "200 of 60,000 images available"


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_is_read(format_name: str, name: str, tmp_path: Path) -> None:
    root = FORMATS[format_name](tmp_path / "cifar")
    for limit in (10, 0):
        data = load_data(name, root, PREPROCESSOR, memory_limit_mb=limit)
        check(data, name)
        if data.image_names:
            classes = [CLASSES[r] for r in data.images.batch(torch.arange(200))[:, 0, 0, 0].tolist()]
            assert [n.rpartition("_s_")[0] for n in data.image_names] == classes


def test_the_fingerprint_covers_the_split_not_the_location(tmp_path: Path) -> None:
    for format_name in ("pickles", "folders", "parquet"):
        first = FORMATS[format_name](tmp_path / format_name)
        fingerprints = {name: load_data(name, first, PREPROCESSOR).fingerprint for name in SOURCES}
        moved = first.rename(tmp_path / f"{format_name} moved")
        assert fingerprints == {name: load_data(name, moved, PREPROCESSOR).fingerprint for name in SOURCES}
        assert len(set(fingerprints.values())) == 2


class Malicious:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("which", ["train", "test", "meta"])
@pytest.mark.parametrize("how", ["system", "eval", "getattr"])
def test_a_malicious_pickle_is_rejected(which: str, how: str, tmp_path: Path) -> None:
    root, trace = make_pickles(tmp_path / "cifar"), tmp_path / "trace"
    malicious = {
        "system": Malicious(os.system, f"touch {trace}"),
        "eval": Malicious(eval, f"open({str(trace)!r}, 'w')"),
        "getattr": Malicious(getattr, dict, "get"),
    }[how]
    (root / which).write_bytes(pickle.dumps({"data": malicious, "fine_label_names": [malicious]}, 2))
    with pytest.raises(
        DataError, match=rf"{which}: not a pickle of CIFAR-100: rejected: it uses \S+"
    ) as caught:
        load_data("fc100", root, PREPROCESSOR)
    assert not trace.exists() and "\n" not in str(caught.value)


def test_the_content_of_a_pickle_is_checked(tmp_path: Path) -> None:
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
def test_damaged_pickles_raise_data_errors_only(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = bytearray(by_python_2(part(CLASSES[:1], False))[:400])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged: ") as caught:
        read_part(path)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_images_are_counted(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "cifar")
    unreadable = root / "train" / "apple" / "apple_s_0.png"
    unreadable.write_bytes(b"text")
    with pytest.raises(DataError, match=r"apple_s_0\.png: cannot be read"):
        load_data("fc100", root, PREPROCESSOR)
    for path in (root / "test").rglob("*.png"):
        path.unlink()
    data = load_data("fc100", root, ImagePreprocessor(32, 3, on_bad_image="skip"))
    assert data.note == "99 of 60,000 images available" and data.skipped == ("train/apple/apple_s_0.png",)
    assert len(data.image_names) == len(data.labels) == 99


def test_other_content_is_rejected_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: contains no CIFAR-100: neither train, test and meta"):
        load_data("cifar_fs", tmp_path / "empty", PREPROCESSOR)
    root = make_folders(tmp_path / "cifar")
    (root / "train" / "apple").rename(root / "train" / "aple")
    with pytest.raises(DataError, match=r"cifar_fs: unknown class 'aple'; did you mean 'apple'\?"):
        load_data("cifar_fs", root, PREPROCESSOR)
    pickles = make_pickles(tmp_path / "pickles")
    (pickles / "test").unlink()
    with pytest.raises(DataError, match=r"test: cannot be read: No such file"):
        load_data("cifar_fs", pickles, PREPROCESSOR)
    (pickles / "meta").write_bytes(dictionary(fine_label_names=listed([text("apple")])))
    with pytest.raises(DataError, match=r"meta: expected fine_label_names, a list of 100 names"):
        load_data("cifar_fs", pickles, PREPROCESSOR)
    rows = huggingface()["train"].rename_column("fine_label", "label")
    rows.save_to_disk(tmp_path / "other")
    with pytest.raises(DataError, match="no column 'fine_label'"):
        load_data("cifar_fs", tmp_path / "other", PREPROCESSOR)


def make_archive(path: Path) -> Path:
    folder = make_pickles(path.parent / "cifar-100-python")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("name", SOURCES)
def test_both_data_sets_share_one_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLFEW_DATA", raising=False)
    with pytest.raises(
        DataError, match=rf"no data for '{name}': looked in \S+/cifar100; .*prepare {name} --from"
    ):
        load_data(name)
    target = prepare(name, make_archive(tmp_path / "cifar-100-python.tar.gz"))
    assert target == tmp_path / "cache" / "vlfew" / "data" / "cifar100"
    for source in SOURCES:
        assert find_data(source) == target
        check(load_data(source, preprocessor=PREPROCESSOR), source)
    other = next(source for source in SOURCES if source != name)
    with pytest.raises(DataError, match="cifar100 exists; remove it first"):
        prepare(other, tmp_path / "cifar-100-python.tar.gz")
    monkeypatch.setenv("VLFEW_DATA", str(target.parent))
    check(load_data(other, preprocessor=PREPROCESSOR), other)


@pytest.mark.parametrize("present", ["train", "test"])
def test_one_part_alone_is_prepared(present: str, tmp_path: Path) -> None:
    root = make_folders(tmp_path / "cifar")
    (root / {"train": "test", "test": "train"}[present]).rename(tmp_path / "removed")
    assert (prepare("fc100", root, tmp_path / "target") / present / "apple").is_dir()


class FakeCIFAR100:
    """Replaces torchvision's class and creates the files that it would download."""

    base_folder = "cifar-100-python"
    filename = "cifar-100-python.tar.gz"
    url = "https://example.org/cifar-100-python.tar.gz"

    def __init__(self, root: Path, download: bool) -> None:
        make_archive(Path(root) / self.filename)


class Offline(FakeCIFAR100):
    def __init__(self, root: Path, download: bool) -> None:
        raise URLError("no route to host")


def test_download_prints_size_and_source_and_extracts_the_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VLFEW_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.CIFAR100", Offline)
    with pytest.raises(DataError, match=r"no route to host.*by hand.*prepare cifar_fs --from ARCHIVE"):
        download("cifar_fs")
    assert not any((tmp_path / "cache" / "vlfew" / "data").iterdir())
    monkeypatch.setattr("torchvision.datasets.CIFAR100", FakeCIFAR100)
    assert sorted(p.name for p in download("fc100").iterdir()) == ["meta", "test", "train"]
    printed = capsys.readouterr().err
    assert "169 MB" in printed and FakeCIFAR100.url in printed
    check(load_data("cifar_fs", preprocessor=PREPROCESSOR), "cifar_fs")


def test_the_real_data_set_is_complete() -> None:
    data = load_data("cifar_fs", real_data("cifar100"), PREPROCESSOR, memory_limit_mb=0)
    assert len(data.labels) == 60_000 and data.note == ""
    assert data.labels.bincount().unique().tolist() == [600]
    assert [len(data.classes(s)) for s in ("train", "val", "test")] == [64, 16, 20]


APPROXIMATE = {"aquarium fish", "baby", "boy", "dinosaur", "forest", "man", "plate", "sea"}
"""Classes whose own sense of WordNet is not in ImageNet-22k."""


def test_every_class_has_the_wordnet_number_of_its_name() -> None:
    numbers = read_wordnet_numbers("cifar100")
    assert sorted(numbers) == CLASSES and len(set(numbers.values())) == 100
    other = set()
    for class_name, text in zip(numbers, wordnet_definitions([*numbers.values()], "cifar100"), strict=True):
        name = display_name(class_name).removesuffix(" tree")
        lemmas, _, definition = text.partition(": ")
        assert len(definition.split()) >= 2, text
        if name not in lemmas.split(", "):
            other.add(display_name(class_name))
    # A computer keyboard is meant, and "son, boy" is another sense of the same word.
    assert other - {"keyboard"} == APPROXIMATE - {"boy"}
    where = files("vlfew.data") / "class_lists" / "cifar100_wordnet.txt"
    marked = where.read_text("utf-8").partition("# Approximate")[2].splitlines()
    assert {
        display_name(line.split()[0]) for line in marked if line.startswith(tuple(CLASSES))
    } == APPROXIMATE


@pytest.mark.parametrize("name", SOURCES)
def test_texts_can_be_the_definitions_of_wordnet(name: str, tmp_path: Path) -> None:
    root = make_pickles(tmp_path / "cifar")
    data = {texts: load_data(name, root, PREPROCESSOR, texts=texts) for texts in get_args(TextSource)}
    tank = data["names"].class_names.index("tank")
    definition = (
        "tank, army tank, armored combat vehicle, armoured combat vehicle: an enclosed armored military vehicle; "
        "has a cannon and moves on caterpillar treads"
    )
    assert data["names"].class_texts[tank] == ("tank",)
    assert data["definitions"].class_texts[tank] == (definition,)
    assert data["both"].class_texts[tank] == ("tank", definition)
    assert len({one.fingerprint for one in data.values()}) == 1
    assert all(one.class_names == data["names"].class_names for one in data.values())
    with pytest.raises(ConfigError, match="texts"):
        load_data(name, root, PREPROCESSOR, texts="synonyms")


def test_definitions_of_every_format(tmp_path: Path) -> None:
    for format_name in ("folders", "parquet", "saved"):
        data = load_data("fc100", FORMATS[format_name](tmp_path / format_name), PREPROCESSOR, texts="both")
        own = dict(zip(data.class_names, data.class_texts, strict=True))
        assert own["maple tree"][0] == "maple tree" and own["maple tree"][1].startswith("maple: ")
        assert {len(texts) for texts in own.values()} == {2}
