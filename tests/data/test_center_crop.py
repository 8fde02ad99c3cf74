"""Cropping the center of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlfew.data.cache import cache_file
from vlfew.data.decode import read_image
from vlfew.data.preprocess import ImagePreprocessor, center_range


@given(st.integers(1, 3000), st.floats(0.001, 1))
def test_the_range_is_centered(length: int, fraction: float) -> None:
    first, last = center_range(length, fraction)
    assert 0 <= first < last <= length
    assert abs(first - (length - last)) <= 1
    assert last - first == max(1, round(length * fraction))


def test_images_are_cropped_before_resizing() -> None:
    pixels = np.zeros((20, 40), np.uint8)
    pixels[5:15, 10:30] = 200
    full = read_image(Image.fromarray(pixels), ImagePreprocessor(8, 1))
    center = read_image(Image.fromarray(pixels), ImagePreprocessor(8, 1, center_crop=0.5))
    assert (center == 200).all() and full.min() == 0


@pytest.mark.parametrize("center_crop", [1.0, 0.5])
def test_a_cropped_large_jpeg_has_full_detail(tmp_path: Path, center_crop: float) -> None:
    """Decoding at a fraction of the size takes the crop into account."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    first, last = center_range(512, center_crop)
    exact = (
        Image.open(tmp_path / "a.jpg")
        .crop((first, first, last, last))
        .resize((64, 64), Image.Resampling.BILINEAR)
    )
    read = (
        read_image(tmp_path / "a.jpg", ImagePreprocessor(64, 1, center_crop=center_crop))[0]
        .numpy()
        .astype(int)
    )
    assert np.abs(read - np.array(exact).astype(int)).mean() < 12


def test_the_cache_file_depends_on_the_crop() -> None:
    files = [cache_file([], ImagePreprocessor(8, 1, center_crop=c), []) for c in (1.0, 0.5)]
    assert files[0] != files[1]
    assert cache_file([], ImagePreprocessor(8, 1, seed=1), []) == files[0]
