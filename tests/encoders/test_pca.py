"""The PCA preprocessing against scikit-learn."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as Reference

from tests.compare import assert_close
from vlfew.core.errors import ModelError, VlfewError
from vlfew.encoders import PREPROCESSING
from vlfew.encoders.preprocessing.pca import PCA

SHAPE = (2, 6, 6)
"""Of the images: 72 values each."""


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draw(count: int, seed: int = 0) -> torch.Tensor:
    """Images whose directions have different variances, and whose mean is not zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 72, generator=generator) * torch.linspace(0.1, 3, 72)
    return (x + torch.linspace(-2, 2, 72)).view(count, *SHAPE)


def fitted(train: torch.Tensor, **options: object) -> PCA:
    preprocessing: PCA = PREPROCESSING.get("pca")(2, 6, **options)
    preprocessing.fit(iter(train.split(32)))
    return preprocessing


@pytest.mark.parametrize("count", [40, 300], ids=["fewer images than values", "more"])
@pytest.mark.parametrize("components", [1, 7, 39])
def test_reconstruction_equals_scikit_learn(count: int, components: int) -> None:
    train, other = draw(count), draw(9, seed=1)
    preprocessing = fitted(train, components=components)
    reference = Reference(components, svd_solver="full").fit(train.flatten(1).numpy())
    expected = reference.inverse_transform(reference.transform(other.flatten(1).numpy()))
    found = preprocessing(other)
    assert found.shape == other.shape and (preprocessing.out_channels, preprocessing.out_size) == (2, 6)
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-10)
    np.testing.assert_allclose(preprocessing.deviation**2, reference.explained_variance_, rtol=1e-10)


@pytest.mark.parametrize("count", [40, 300])
def test_whitening_equals_scikit_learn(count: int) -> None:
    train, other = draw(count), draw(9, seed=1)
    found = fitted(train, components=7, whiten=True)(other).flatten(1)
    reference = Reference(7, whiten=True, svd_solver="full").fit(train.flatten(1).numpy())
    scores = reference.transform(other.flatten(1).numpy())
    np.testing.assert_allclose(found, sqrt(72 / 7) * scores @ reference.components_, atol=1e-10)


def test_whitened_pixels_have_unit_variance() -> None:
    train = draw(300)
    found = fitted(train, components=20, whiten=True)(train)
    assert found.mean((0,)).abs().max() < 1e-10
    assert found.var(0).mean().item() == pytest.approx(1.0)


def test_all_components_reconstruct_the_image() -> None:
    other = draw(5, seed=1)
    assert_close(fitted(draw(100), components=72)(other), other)


def test_batches_do_not_matter() -> None:
    train, other = draw(100), draw(5, seed=1)
    one, two = PCA(2, 6, components=5), PCA(2, 6, components=5)
    one.fit([train])
    two.fit(train.split(7))
    assert_close(one(other), two(other))


def test_save_and_load() -> None:
    preprocessing = fitted(draw(40), components=5, whiten=True, images=40)
    again = PREPROCESSING.get("pca")(2, 6, components=5, whiten=True, images=40)
    assert preprocessing.saved_options is None and not list(again.parameters())
    assert again(draw(3)).isnan().all()  # until it is loaded
    again.load_state_dict(preprocessing.state_dict())
    assert torch.equal(again(draw(3)), preprocessing(draw(3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, r"components is 0; images of 2 x 6 x 6 have from 1 to 72"),
        ({"components": 73}, r"components is 73; .*from 1 to 72"),
        ({"images": 1}, "images is 1; it must be at least 2"),
        ({"components": 40}, "40, but the 40 training images it was fitted to have rank 39"),
    ],
)
def test_options_out_of_range_are_one_line_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(VlfewError, match=message) as error:
        fitted(draw(40), **options)
    assert "\n" not in str(error.value)


def test_constant_pixels_have_no_components() -> None:
    """A black border, in float32 and far from zero, leaves the pixels inside it."""
    train = draw(300).float()
    train[:, :, 0] = -1.7320508
    with pytest.raises(ModelError, match="have rank 60"):
        fitted(train, components=61)
    assert fitted(train, components=60, whiten=True)(train).isfinite().all()
