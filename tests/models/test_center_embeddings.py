"""A centered model: images and words each taken from their own mean, wherever the model goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.models.conftest import worded
from vlfew.models import DualStream
from vlfew.models.export import export_stream
from vlfew.models.serialization import load, save_model

TEXTS = ["a cat", "a dog", "a green mug"]


def refer(model: DualStream, images: torch.Tensor, texts: list[str]) -> None:
    """To as many classes as there are texts."""
    model.fit_reference(images.split(4), torch.arange(len(images)) % len(texts), [[text] for text in texts])


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (10, 1, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def model(images: torch.Tensor) -> DualStream:
    model = worded(center_embeddings=True)
    refer(model, images, TEXTS)
    return model


def test_each_kind_is_taken_from_its_own_mean(model: DualStream, images: torch.Tensor) -> None:
    plain = worded(center_embeddings=False)
    seen = normalize(plain.encode_images(images).embedding, dim=1)
    said = normalize(plain.encode_texts([*TEXTS, "a letter"]), dim=1)
    torch.testing.assert_close(model.encode_images(images).embedding, seen - seen.mean(0))
    torch.testing.assert_close(model.encode_texts([*TEXTS, "a letter"]), said - said[:3].mean(0))


def test_taken_anew_the_means_are_those_of_what_was_shown_last(images: torch.Tensor) -> None:
    model = worded(center_embeddings=True)
    refer(model, images[:3], TEXTS[:1])
    refer(model, images, TEXTS)
    assert model.encode_images(images).embedding.mean(0).abs().max() < 1e-6
    assert model.encode_texts(TEXTS).mean(0).abs().max() < 1e-6


def test_a_saved_model_keeps_them(model: DualStream, images: torch.Tensor, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    again = load(str(tmp_path))
    torch.testing.assert_close(again.encode_images(images).embedding, model.encode_images(images).embedding)
    torch.testing.assert_close(again.encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_an_exported_stream_has_its_center(model: DualStream, images: torch.Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    export_stream(model, "image", tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"), providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    (vectors,) = session.run(None, {name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(vectors), model.encode_images(images).embedding)
