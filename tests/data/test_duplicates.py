"""Images that are there more than once are counted and named."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlfew.data import ImagePreprocessor, load_data
from vlfew.data.duplicates import duplicate_note, identical_images
from vlfew.data.labeled_images import InMemory, LabeledImages


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for number, place in enumerate(
        ("train/cat", "train/dog", "train/mug", "test/tench", "test/yak", "val/x", "val/y")
    ):
        (root / place).mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (10, 10), (20 * number, 5 * n, 7)).save(root / place / f"{n}.png")
    return root


def note(root: Path, memory_limit_mb: int = 100) -> str:
    data = load_data("folder", root, ImagePreprocessor(8, 3), memory_limit_mb=memory_limit_mb)
    assert list(data.notes) == [note for note in [duplicate_note(data)] if note]
    return duplicate_note(data)


@pytest.mark.parametrize("memory_limit_mb", [100, 0])
def test_places_are_named(root: Path, memory_limit_mb: int) -> None:
    assert note(root, memory_limit_mb) == ""
    shutil.copy(root / "train/cat/0.png", root / "train/cat/9.png")
    assert note(root, memory_limit_mb) == (
        "identical images: 1 image twice in a class (train/cat/0.png and train/cat/9.png)"
    )
    shutil.copy(root / "train/cat/1.png", root / "train/dog/8.png")
    shutil.copy(root / "train/cat/2.png", root / "train/dog/9.png")
    shutil.copy(root / "train/mug/2.png", root / "test/yak/9.png")
    assert note(root, memory_limit_mb) == (
        "identical images: 3 images in two classes (test/yak/9.png and train/mug/2.png), "
        "1 image in test and train (test/yak/9.png and train/mug/2.png), "
        "1 image twice in a class (train/cat/0.png and train/cat/9.png)"
    )


def test_the_same_pixels_in_another_file(root: Path) -> None:
    Image.open(root / "train/cat/0.png").save(root / "train/cat/9.bmp")
    assert "1 image twice in a class" in note(root)
    assert note(root, memory_limit_mb=0) == ""  # the files differ, and nothing is decoded


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=30))
def test_groups_are_those_of_a_dictionary(images: list[tuple[int, int]]) -> None:
    pixels = torch.tensor([shade for shade, _ in images], dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.tensor([label for _, label in images], dtype=torch.int64)
    data = LabeledImages(
        "dots", InMemory(pixels), labels, ("a", "b", "c"), {"test": torch.arange(len(images))}, ""
    )
    expected: dict[int, list[int]] = defaultdict(list)
    for number, (shade, _) in enumerate(images):
        expected[shade].append(number)
    assert identical_images(data.images.hashes) == sorted(
        group for group in expected.values() if len(group) > 1
    )
    crossing = sum(len({images[n][1] for n in group}) > 1 for group in expected.values())
    assert (f"{crossing} image" in duplicate_note(data)) or not crossing
