"""The definition of glyphs, with the real fonts and with too few of them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, load_data


@pytest.fixture(scope="module")
def glyphs():
    return load_data("glyphs", None, ImagePreprocessor(image_size=32))


def test_the_number_of_classes_and_images_follows_the_definition(glyphs):
    # The numbers depend slightly on the versions of the fonts and of Unicode.
    assert 4_000 < len(glyphs.class_names) < 5_000
    assert 33_000 < len(glyphs.images) < 40_000
    assert all(glyphs.class_texts) and glyphs.images.shape == (1, 32, 32)


def test_no_image_is_in_two_classes(glyphs):
    label_of: dict[bytes, int] = {}
    for start in range(0, len(glyphs.images), 4096):
        index = torch.arange(start, min(start + 4096, len(glyphs.images)))
        for image, label in zip(glyphs.images.batch(index), glyphs.labels[index].tolist(), strict=True):
            key = hashlib.sha1(image.numpy().tobytes()).digest()
            assert key not in label_of, "an image occurs twice"
            label_of[key] = label


def test_identical_characters_are_one_class_with_all_names(glyphs):
    texts = dict(zip(glyphs.class_names, glyphs.class_texts, strict=True))
    names = texts["latin capital letter h"]
    assert {"greek capital letter eta", "cyrillic capital letter en"} <= set(names)


def test_every_class_is_in_one_split(glyphs):
    classes = {name: set(glyphs.classes(name).tolist()) for name in ("train", "val", "test")}
    assert sum(map(len, classes.values())) == len(glyphs.class_names)
    assert len(set.union(*classes.values())) == len(glyphs.class_names)
    assert 0.18 < len(classes["test"]) / len(glyphs.class_names) < 0.22
    assert min(len(i) for i in glyphs.by_class("test").values()) >= 3


def test_another_seed_gives_another_split_of_the_same_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vlfew.data.sources.glyphs.CATEGORIES", "P")
    one, other = (load_data("glyphs", None, ImagePreprocessor(image_size=32, seed=seed)) for seed in (0, 1))
    assert len(one.class_names) > 50 and torch.equal(other.labels, one.labels)
    assert not torch.equal(other.indices("test"), one.indices("test"))
    assert other.fingerprint != one.fingerprint


def test_a_folder_without_fonts_is_rejected(tmp_path: Path):
    with pytest.raises(DataError, match=r"no fonts \(\*.ttf\)"):
        load_data("glyphs", tmp_path, ImagePreprocessor())


def test_each_size_of_a_font_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import matplotlib
    from PIL import ImageFont

    shutil.copy(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), tmp_path)
    opened: list[tuple[str, float]] = []
    truetype = ImageFont.truetype

    def counting(font: str, size: float) -> ImageFont.FreeTypeFont:
        opened.append((font, size))
        return truetype(font, size)

    monkeypatch.setattr(ImageFont, "truetype", counting)
    with pytest.raises(DataError, match="at least 4 of the 1 faces"):
        load_data("glyphs", tmp_path, ImagePreprocessor(image_size=16))
    assert len(opened) == len(set(opened)) > 1
