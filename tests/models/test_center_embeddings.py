"""Centered models: the mean of images and that of texts are subtracted, also after saving and export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.compare import assert_close
from tests.models.conftest import tiny_text_model
from vlfew.models import DualStream
from vlfew.models.export import export_stream
from vlfew.models.loading import load
from vlfew.models.serialization import save_model

TEXTS = ["a cat", "a dog", "a green mug"]


def fit(model: DualStream, images: torch.Tensor, texts: list[str]) -> None:
    """Fits the reference to as many classes as there are texts."""
    model.fit_training_means(
        images.split(4), torch.arange(len(images)) % len(texts), [[text] for text in texts]
    )


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (10, 1, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def model(images: torch.Tensor) -> DualStream:
    model = tiny_text_model(center_embeddings=True)
    fit(model, images, TEXTS)
    return model


def test_images_and_texts_are_centered_by_their_own_means(model: DualStream, images: torch.Tensor) -> None:
    plain = tiny_text_model(center_embeddings=False)
    image = normalize(plain.encode_image(images), dim=1)
    text = normalize(plain.encode_text([*TEXTS, "a letter"]), dim=1)
    assert_close(model.encode_image(images), image - image.mean(0))
    assert_close(model.encode_text([*TEXTS, "a letter"]), text - text[:3].mean(0))


def test_fitting_again_replaces_the_means(images: torch.Tensor) -> None:
    model = tiny_text_model(center_embeddings=True)
    fit(model, images[:3], TEXTS[:1])
    fit(model, images, TEXTS)
    assert model.encode_image(images).mean(0).abs().max() < 1e-6
    assert model.encode_text(TEXTS).mean(0).abs().max() < 1e-6


def test_means_are_saved(model: DualStream, images: torch.Tensor, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    again = load(str(tmp_path))
    assert_close(again.encode_image(images), model.encode_image(images))
    assert_close(again.encode_text(TEXTS), model.encode_text(TEXTS))


def test_means_are_exported(model: DualStream, images: torch.Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    export_stream(model, "image", tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"), providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    (vectors,) = session.run(None, {name: images.numpy()})
    assert_close(torch.from_numpy(vectors), model.encode_image(images))
