"""Pages of characters: what their definition promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vlfew.core.errors import ConfigError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.sources import glyphs as glyphs_source

FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
SIZE = 160


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four faces, of which punctuation is drawn: a few hundred classes in a second."""
    import matplotlib

    folder = tmp_path_factory.mktemp("fonts")
    for face in FACES:
        shutil.copy(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf"), folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_characters(fonts: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs_source, "CATEGORIES", "PS")
        yield


def load(fonts: Path, size: int = SIZE, seed: int = 0, **options: object) -> LabeledImages:
    counts = {"train_pages": 12, "val_pages": 4, "test_pages": 4}
    return load_data("glyph_pages", fonts, ImagePreprocessor(size, 1, seed=seed), **counts | options)


@pytest.fixture(scope="module")
def data(fonts: Path) -> LabeledImages:
    return load(fonts)


def test_pages_have_as_many_characters_as_promised(data: LabeledImages) -> None:
    assert data.boxes is not None
    per_page = data.boxes.per_image
    assert 6 <= per_page.min() < per_page.max() <= 14
    assert [len(data.indices(split)) for split in ("train", "val", "test")] == [12, 4, 4]


def test_no_split_shows_a_character_of_another_and_the_split_is_that_of_glyphs(
    data: LabeledImages, fonts: Path
) -> None:
    glyphs = load_data("glyphs", fonts, ImagePreprocessor(32, 1))
    assert data.split_by == "class" and data.class_names == glyphs.class_names
    for split in ("train", "val", "test"):
        assert set(data.classes(split).tolist()) <= set(glyphs.classes(split).tolist())


def test_boxes_are_large_enough_and_cover_each_other_in_part_only(data: LabeledImages) -> None:
    assert data.boxes is not None
    pixels = (data.boxes.xyxy * SIZE).round()
    assert torch.allclose(pixels, data.boxes.xyxy * SIZE, atol=1e-3)
    sides = pixels[:, 2:] - pixels[:, :2]
    assert sides.amax(1).min() == 9
    covered = []
    for page in range(len(data.images)):
        own = pixels[data.boxes.rows(page)]
        low, high = (
            torch.maximum(own[:, None, :2], own[None, :, :2]),
            torch.minimum(own[:, None, 2:], own[None, :, 2:]),
        )
        area = (own[:, 2:] - own[:, :2]).prod(1)
        share = (high - low).clamp(min=0).prod(2) / torch.minimum(area[:, None], area[None])
        covered.append(share.fill_diagonal_(0).max())
    assert 0 < max(covered) <= 0.45


def test_a_box_contains_the_ink_of_its_character_and_touches_it_on_all_sides(fonts: Path) -> None:
    data = load(fonts, min_glyphs=1, max_glyphs=1, clutter=False)
    assert data.boxes is not None
    for page in range(len(data.images)):
        image = data.images.batch(torch.tensor([page]))[0, 0].int()
        paper = int(image.mode()[0].mode()[0])
        rows, columns = (image < paper - 20).any(1).nonzero(), (image < paper - 20).any(0).nonzero()
        ink = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        box = (data.boxes.xyxy[data.boxes.rows(page)][0] * SIZE).round().int().tolist()
        assert np.abs(np.array(ink) - box).max() <= 1, (page, ink, box)


def test_page_n_depends_on_the_seed_and_n_alone(data: LabeledImages, fonts: Path) -> None:
    fewer = load(fonts, train_pages=5, val_pages=2)
    one, other = data.indices("test")[:3], fewer.indices("test")[:3]
    assert torch.equal(data.images.batch(one), fewer.images.batch(other))
    assert data.boxes is not None and fewer.boxes is not None
    assert torch.equal(data.boxes.subset(one).xyxy, fewer.boxes.subset(other).xyxy)
    assert fewer.fingerprint != data.fingerprint
    assert load(fonts).fingerprint == data.fingerprint
    assert load(fonts, seed=1).fingerprint != data.fingerprint


def test_crops_are_labeled_images_of_the_characters(data: LabeledImages, fonts: Path) -> None:
    crops = load(fonts, size=32, crops=True)
    assert crops.boxes is None and data.boxes is not None
    assert torch.equal(crops.labels, data.boxes.labels)
    assert crops.images.shape == (1, 32, 32) and len(crops.images) == len(data.boxes)
    assert {split: len(index) for split, index in crops.splits.items()} == {
        split: len(data.boxes.subset(index)) for split, index in data.splits.items()
    }
    assert crops.image_names[:2] == ("train-0 0", "train-0 1")


def test_more_characters_at_least_than_at_most_is_an_error(fonts: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.min_glyphs=9 is more than data\.max_glyphs=3"):
        load(fonts, min_glyphs=9, max_glyphs=3)
