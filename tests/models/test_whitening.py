"""Whitening within classes against loops over images and classes."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from tests.compare import assert_close
from vlfew.models.whitening import Whitening

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 0, 3])
"""Class 3 has one image."""


@pytest.fixture
def embedding() -> torch.Tensor:
    return torch.randn(len(LABELS), 4, generator=torch.Generator().manual_seed(0))


def unit(values: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in values))
    return [v / length for v in values]


def power(values: list[float], exponent: float) -> list[float]:
    return unit([math.copysign(abs(v) ** exponent, v) for v in values])


@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_it_is_the_inverse_of_the_shrunk_covariance_within_classes(
    embedding: torch.Tensor, exponent: float, shrinkage: float
) -> None:
    whitening = Whitening(4, exponent, shrinkage)
    whitening.fit(embedding, LABELS)
    x, y = [power(row, exponent) for row in embedding.tolist()], LABELS.tolist()
    scatter = []
    for row, label in zip(x, y, strict=True):
        own = [other for other, of in zip(x, y, strict=True) if of == label]
        mean = [sum(values) / len(own) for values in zip(*own, strict=True)]
        factor = math.sqrt(len(x) / (4 * max(1, len(own) - 1)))
        scatter.append([factor * (a - b) for a, b in zip(row, mean, strict=True)])
    covariance = [[sum(row[i] * row[j] for row in scatter) / len(x) for j in range(4)] for i in range(4)]
    average = sum(covariance[i][i] for i in range(4)) / 4
    estimated = ledoit_wolf_shrinkage(torch.tensor(scatter).numpy(), assume_centered=True)
    identity = 1 - (1 - estimated) * (1 - shrinkage)
    shrunk = (1 - identity) * torch.tensor(covariance) / average + identity * torch.eye(4)
    mean = torch.tensor([sum(values) / len(x) for values in zip(*x, strict=True)])
    # Cosines after whitening are those under the metric of the inverse covariance.
    centered = torch.tensor(x) - mean
    products = centered @ torch.linalg.inv(shrunk) @ centered.T
    lengths = products.diagonal().sqrt()
    whitened = whitening(embedding)
    assert_close(whitened @ whitened.T, products / lengths[:, None] / lengths)
    text = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    size = (text @ shrunk * text).sum(1).sqrt()
    assert_close(whitening.project_text(text) @ whitened.T, text @ centered.T / size[:, None] / lengths)


def test_classes_of_one_image_are_only_centered(embedding: torch.Tensor) -> None:
    whitening = Whitening(4, 1.0, 0.5)
    whitening.fit(embedding, torch.arange(len(embedding)))
    x = torch.nn.functional.normalize(embedding, dim=1)
    assert_close(whitening(embedding), torch.nn.functional.normalize(x - x.mean(0), dim=1))


def test_fitting_again_replaces_what_was_fitted(embedding: torch.Tensor) -> None:
    once, twice = Whitening(4, 0.5, 0.5), Whitening(4, 0.5, 0.5)
    once.fit(embedding, LABELS)
    twice.fit(embedding[:4] * torch.tensor([1, 5, 2, 3]), LABELS[:4])
    twice.fit(embedding, LABELS)
    assert_close(twice(embedding), once(embedding))
    twice.fit(embedding, torch.arange(len(embedding)))
    assert_close(twice.basis, torch.eye(4))


def test_zeros_have_a_gradient(embedding: torch.Tensor) -> None:
    whitening = Whitening(4, 0.5, 0.5)
    whitening.fit(embedding, LABELS)
    x = embedding.clone()
    x[:, 0] = 0
    whitening(x.requires_grad_()).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_other_images_or_loaded_values_are_fitted_anew(embedding: torch.Tensor) -> None:
    whitening, fresh = Whitening(4, 0.5, 0.5), Whitening(4, 0.5, 0.5)
    whitening.fit(embedding, LABELS)
    whitening.fit(embedding + 1, LABELS)
    fresh.fit(embedding + 1, LABELS)
    assert_close(whitening(embedding), fresh(embedding))
    whitening.load_state_dict(Whitening(4, 0.5, 0.5).state_dict())
    whitening.fit(embedding + 1, LABELS)
    assert_close(whitening(embedding), fresh(embedding))
    whitening.fit(embedding + 1, LABELS.flip(0))
    assert not torch.allclose(whitening(embedding), fresh(embedding))
