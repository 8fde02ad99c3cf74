"""MNIST from IDX files: layouts, pixels, random subsets, ink, and error messages."""

from __future__ import annotations

import gzip
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import real_data
from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, load_data
from vlfew.data.decode import read_image

PREPROCESSOR = ImagePreprocessor(image_size=28, channels=1)
COUNTS = {"train": 80, "t10k": 30}


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLFEW_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def idx(values: np.ndarray, magic: int | None = None) -> bytes:
    """An IDX file of unsigned bytes."""
    magic = 0x800 + values.ndim if magic is None else magic
    return struct.pack(f">{1 + values.ndim}i", magic, *values.shape) + values.astype(np.uint8).tobytes()


def digits(stem: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images whose labels cycle through the digits."""
    rng = np.random.default_rng(len(stem))
    return rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count) % 10


def make(folder: Path, counts: dict[str, int] = COUNTS, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for stem, count in counts.items():
        images, labels = digits(stem, count)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{stem}-{kind}-ubyte"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(values), 1))
            else:
                path.write_bytes(idx(values))
    return folder


@pytest.fixture
def folder(data_root: Path) -> Path:
    return make(data_root / "mnist")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("root", "below"), [("mnist", ""), ("mnist", "MNIST/raw"), ("", "MNIST/raw"), ("MNIST", "")]
)
def test_every_layout_gives_the_same_data(
    root: str, below: str, packed: bool, tmp_path: Path, data_root: Path
) -> None:
    plain = load_data("mnist", make(tmp_path / "plain"), PREPROCESSOR)
    make(data_root / root / below, packed=packed)
    data = load_data("mnist", None, PREPROCESSOR)
    assert data.fingerprint == plain.fingerprint and torch.equal(data.labels, plain.labels)
    everything = torch.arange(110)
    assert torch.equal(data.images.batch(everything), plain.images.batch(everything))
    assert load_data("mnist", data_root / root, PREPROCESSOR).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    "preprocessor",
    [
        PREPROCESSOR,
        ImagePreprocessor(32, 3),
        ImagePreprocessor(20, 1, "crop"),
        ImagePreprocessor(11, 3, "crop"),
    ],
)
def test_pixels_equal_those_of_the_same_images_in_files(
    folder: Path, preprocessor: ImagePreprocessor
) -> None:
    data = load_data("mnist", None, preprocessor)
    stored = np.concatenate([digits(stem, count)[0] for stem, count in COUNTS.items()])
    assert data.images.shape == (preprocessor.channels, preprocessor.image_size, preprocessor.image_size)
    index = torch.tensor([3, 100, 0, 100])
    expected = [read_image(Image.fromarray(stored[n]), preprocessor) for n in index.tolist()]
    assert torch.equal(data.images.batch(index), torch.stack(expected))
    assert data.images.batch(index[:0]).shape == (0, *data.images.shape)


def test_splits_classes_and_texts(folder: Path) -> None:
    data = load_data("mnist", None, PREPROCESSOR)
    assert {split: len(index) for split, index in data.splits.items()} == {"train": 80, "test": 30}
    assert data.split_by == "image" and all(data.class_texts)
    assert data.class_names[3] == "three" and data.class_texts[3] == ("three", "3", "digit three")
    assert data.labels.tolist() == [n % 10 for n in range(80)] + [n % 10 for n in range(30)]
    assert data.note == "80 of 60,000 train images available; 30 of 10,000 test images available"


def test_dark_ink_inverts(folder: Path) -> None:
    light, dark = (load_data("mnist", None, PREPROCESSOR, ink=ink) for ink in ("light", "dark"))
    everything = torch.arange(110)
    assert torch.equal(dark.images.batch(everything), 255 - light.images.batch(everything))
    assert torch.equal(dark.labels, light.labels) and dark.fingerprint != light.fingerprint


@pytest.mark.parametrize(("draw", "train"), [("small", 600), ("thousand", 100)])
def test_a_smaller_draw_is_balanced_and_depends_on_the_seed(data_root: Path, draw: str, train: int) -> None:
    counts = {"train": 7000, "t10k": 1100}
    make(data_root / "mnist", counts)

    def drawn(seed: int) -> tuple[set[bytes], set[bytes]]:
        data = load_data("mnist", None, ImagePreprocessor(28, 1, seed=seed), draw=draw)
        for split, each in (("train", train), ("test", 100)):
            index = data.splits[split]
            assert Counter(data.labels[index].tolist()) == dict.fromkeys(range(10), each)
            stem = "train" if split == "train" else "t10k"
            images, labels = digits(stem, counts[stem])
            digit_of = {p.tobytes(): int(d) for p, d in zip(images, labels, strict=True)}
            drawn_images = [p.tobytes() for p in data.images.batch(index).numpy()]
            assert [digit_of[p] for p in drawn_images] == data.labels[index].tolist()
            assert len(set(drawn_images)) == len(drawn_images) == 10 * each
            sets.append(set(drawn_images))
        return sets[-2], sets[-1]

    sets: list[set[bytes]] = []
    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first == again
    assert first[0] != other[0] and first[1] != other[1]
    assert len(load_data("mnist", None, PREPROCESSOR, draw=draw).images) == 10 * train + 1000


def test_too_few_images_for_the_small_draw(folder: Path) -> None:
    with pytest.raises(DataError, match="needs 600 train images of 'zero', but there are 8"):
        load_data("mnist", None, PREPROCESSOR, draw="small")


def test_the_fingerprint_covers_pixels_labels_and_draw(folder: Path) -> None:
    fingerprints = {load_data("mnist", None, PREPROCESSOR).fingerprint}
    images, labels = digits("train", 80)
    images[7, 3, 3] ^= 1
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    fingerprints.add(load_data("mnist", None, PREPROCESSOR).fingerprint)
    labels[7] = 0
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    fingerprints.add(load_data("mnist", None, PREPROCESSOR).fingerprint)
    assert len(fingerprints) == 3
    assert load_data("mnist", None, ImagePreprocessor(40, 3)).fingerprint in fingerprints


def gz(values: np.ndarray, magic: int | None = None) -> bytes:
    return gzip.compress(idx(values, magic), 1)


IMAGES, LABELS = digits("train", 80)
DAMAGED: list[tuple[str, Callable[[bytes], bytes | None], str]] = [
    ("train-images-idx3", lambda _: None, r"neither train-images-idx3-ubyte nor .*\.gz in"),
    ("t10k-labels-idx1", lambda _: None, r"neither t10k-labels-idx1-ubyte nor"),
    ("train-images-idx3", lambda c: c[: len(c) // 2], "truncated, damaged or not gzip"),
    ("train-images-idx3", lambda c: c[:-4], "truncated, damaged or not gzip"),
    ("train-images-idx3", lambda c: c[:5000] + bytes(99) + c[5099:], "truncated, damaged or not gzip"),
    ("train-images-idx3", lambda _: b"<html>not found</html>", "truncated, damaged or not gzip"),
    ("train-images-idx3", lambda _: b"", r"starts with 0 instead of 2051, the magic number of IDX images"),
    (
        "train-images-idx3",
        lambda _: gz(LABELS),
        "starts with 2049 instead of 2051, the magic number of IDX images",
    ),
    (
        "t10k-labels-idx1",
        lambda _: gz(LABELS, 2051),
        "starts with 2051 instead of 2049, the magic number of IDX labels",
    ),
    ("train-images-idx3", lambda _: gz(IMAGES[:79]), "holds 79 images, but .* 80 labels"),
    (
        "train-labels-idx1",
        lambda _: gzip.compress(idx(LABELS)[:-3]),
        "77 bytes after the header, which announces 80",
    ),
    ("train-labels-idx1", lambda _: gzip.compress(idx(LABELS) + b"!"), "81 bytes after the header"),
    ("train-images-idx3", lambda _: gzip.compress(idx(IMAGES)[:9]), "starts with|after the header"),
    ("train-images-idx3", lambda _: gz(IMAGES[:, :20]), "images of 20x28 pixels, not 28x28"),
    ("train-labels-idx1", lambda _: gz(LABELS + 4 * (LABELS == 9)), "label 13 of image 9 is not a digit"),
]


@pytest.mark.parametrize(("stem", "damage", "message"), DAMAGED, ids=[f"{s}-{m[:24]}" for s, _, m in DAMAGED])
def test_damaged_files_are_named_in_one_line(
    folder: Path, stem: str, damage: Callable[[bytes], bytes | None], message: str
) -> None:
    path = folder / f"{stem}-ubyte.gz"
    content = damage(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_data("mnist", None, PREPROCESSOR)
    assert "\n" not in str(error.value) and stem in str(error.value)


def test_missing_and_empty_files_are_named(data_root: Path) -> None:
    with pytest.raises(DataError, match=r"no data for 'mnist'.*MNIST.*prepare mnist"):
        load_data("mnist", None, PREPROCESSOR)
    (data_root / "mnist").mkdir(parents=True)
    with pytest.raises(DataError, match="neither train-images"):
        load_data("mnist", None, PREPROCESSOR)
    make(data_root / "none", {"train": 0, "t10k": 0})
    with pytest.raises(DataError, match="holds no images"):
        load_data("mnist", data_root / "none", PREPROCESSOR)


def test_the_real_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()  # back to the real data root
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = real_data("mnist")
    started = time.process_time()
    data = load_data("mnist", root, ImagePreprocessor(32, 1))
    assert time.process_time() - started < 2
    assert data.note == "" and {s: len(i) for s, i in data.splits.items()} == {"train": 60000, "test": 10000}
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    small = load_data("mnist", root, ImagePreprocessor(32, 1), draw="small", ink="dark")
    assert {s: len(i) for s, i in small.splits.items()} == {"train": 6000, "test": 1000}
    everything = small.images.batch(torch.arange(7000)).float()
    assert everything.mean() > 200 and everything[:, :, 0, 0].min() == 255  # white background
