"""Words read by the training classes with words like them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.models.conftest import worded
from vlfew.models import DualStream
from vlfew.models.class_neighbors import ClassNeighbors
from vlfew.models.serialization import load, parameter_counts, save_model

TEXTS = [["a cat", "a small cat"], ["a green mug"], ["a letter"]]
LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


def by_hand(
    text: list[float], words: list[list[float]], seen: list[list[float]], temperature: float
) -> list[float]:
    """The definition in plain Python; `seen` are unit vectors."""

    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in v))
        return [x / length for x in v]

    words = [unit(w) for w in words]
    mean = [sum(column) / len(words) for column in zip(*words, strict=True)]
    away = [unit([x - m for x, m in zip(w, mean, strict=True)]) for w in words]
    own = unit([x - m for x, m in zip(unit(text), mean, strict=True)])
    pair_similarity = [math.exp(sum(a * b for a, b in zip(own, w, strict=True)) / temperature) for w in away]
    share = [e / sum(pair_similarity) for e in pair_similarity]
    return [sum(s * v[d] for s, v in zip(share, seen, strict=True)) for d in range(len(seen[0]))]


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_a_text_is_what_classes_like_it_look_like(temperature: float) -> None:
    torch.manual_seed(0)
    words, images, texts = torch.randn(4, 6), torch.randn(4, 3), torch.randn(5, 6)
    neighbors = ClassNeighbors(4, 6, 3, temperature)
    neighbors.remember(words, images)
    seen = normalize(images, dim=1).tolist()
    expected = [by_hand(t, words.tolist(), seen, temperature) for t in texts.tolist()]
    torch.testing.assert_close(neighbors(texts), torch.tensor(expected))


@pytest.fixture(scope="module")
def model() -> DualStream:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (6, 1, 16, 16), generator=generator, dtype=torch.uint8)
    model = worded(center_embeddings=True, class_neighbors=0.01, classes=3)
    model.fit_reference(images.split(4), LABELS, TEXTS)
    return model


def test_the_words_of_a_training_class_look_like_its_images(model: DualStream) -> None:
    """At so low a temperature no other class has a say."""
    said = model.encode_texts([own[-1] for own in TEXTS])
    torch.testing.assert_close(said, model.class_neighbors.images, atol=1e-3, rtol=0)


def test_a_saved_model_keeps_them_and_counts_no_parameters(model: DualStream, tmp_path: Path) -> None:
    save_model(model, tmp_path / "with")
    save_model(worded(center_embeddings=True), tmp_path / "without")
    texts = ["a dog", "a mug"]
    torch.testing.assert_close(load(str(tmp_path / "with")).encode_texts(texts), model.encode_texts(texts))
    assert parameter_counts(tmp_path / "with") == parameter_counts(tmp_path / "without")
