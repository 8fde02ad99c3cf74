"""Texts represented by the training classes with similar texts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.compare import assert_close
from tests.models.conftest import tiny_text_model
from vlfew.models import DualStream
from vlfew.models.class_neighbors import ClassNeighbors
from vlfew.models.loading import load
from vlfew.models.serialization import parameter_counts, save_model

TEXTS = [["a cat", "a small cat"], ["a green mug"], ["a letter"]]
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


def by_hand(
    text: list[float], class_texts: list[list[float]], images: list[list[float]], temperature: float
) -> list[float]:
    """The definition in plain Python; `images` are unit vectors."""

    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in v))
        return [x / length for x in v]

    class_texts = [unit(t) for t in class_texts]
    mean = [sum(column) / len(class_texts) for column in zip(*class_texts, strict=True)]
    centered = [unit([x - m for x, m in zip(t, mean, strict=True)]) for t in class_texts]
    own = unit([x - m for x, m in zip(unit(text), mean, strict=True)])
    weights = [math.exp(sum(a * b for a, b in zip(own, t, strict=True)) / temperature) for t in centered]
    share = [w / sum(weights) for w in weights]
    return [sum(s * v[d] for s, v in zip(share, images, strict=True)) for d in range(len(images[0]))]


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_texts_are_mixtures_of_class_images(temperature: float) -> None:
    torch.manual_seed(0)
    class_texts, images, texts = torch.randn(4, 6), torch.randn(4, 3), torch.randn(5, 6)
    neighbors = ClassNeighbors(4, 6, 3, temperature)
    neighbors.fit(class_texts, images)
    units = normalize(images, dim=1).tolist()
    expected = [by_hand(t, class_texts.tolist(), units, temperature) for t in texts.tolist()]
    assert_close(neighbors(texts), torch.tensor(expected))


@pytest.fixture(scope="module")
def model() -> DualStream:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (6, 1, 16, 16), generator=generator, dtype=torch.uint8)
    model = tiny_text_model(center_embeddings=True, class_neighbors={"temperature": 0.01}, num_classes=3)
    model.fit_training_means(images.split(4), LABELS, TEXTS)
    return model


def test_the_texts_of_a_training_class_become_its_images(model: DualStream) -> None:
    """At this temperature no other class contributes."""
    embedding = model.encode_text([own[-1] for own in TEXTS])
    assert_close(embedding, model.class_neighbors.images, tolerance=1e-2)


def test_they_are_saved_and_are_no_parameters(model: DualStream, tmp_path: Path) -> None:
    save_model(model, tmp_path / "with")
    save_model(tiny_text_model(center_embeddings=True), tmp_path / "without")
    texts = ["a dog", "a mug"]
    assert_close(load(str(tmp_path / "with")).encode_text(texts), model.encode_text(texts))
    assert parameter_counts(tmp_path / "with") == parameter_counts(tmp_path / "without")
