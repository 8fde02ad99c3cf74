"""A centred model: pictures and words each taken from their own mean, wherever the model goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.models.conftest import worded
from vlfew.models import DualStream
from vlfew.models.export import export_stream
from vlfew.models.saved import load, save_model

TEXTS = ["a cat", "a dog", "a green mug"]


def refer(model: DualStream, pictures: torch.Tensor, texts: list[str]) -> None:
    """To as many classes as there are texts."""
    model.refer_to(pictures.split(4), torch.arange(len(pictures)) % len(texts), [[text] for text in texts])


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (10, 1, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def model(pictures: torch.Tensor) -> DualStream:
    model = worded(centred=True)
    refer(model, pictures, TEXTS)
    return model


def test_each_kind_is_taken_from_its_own_mean(model: DualStream, pictures: torch.Tensor) -> None:
    plain = worded(centred=False)
    seen = normalize(plain.encode_images(pictures).embedding, dim=1)
    said = normalize(plain.encode_texts([*TEXTS, "a letter"]), dim=1)
    torch.testing.assert_close(model.encode_images(pictures).embedding, seen - seen.mean(0))
    torch.testing.assert_close(model.encode_texts([*TEXTS, "a letter"]), said - said[:3].mean(0))


def test_taken_anew_the_means_are_those_of_what_was_shown_last(pictures: torch.Tensor) -> None:
    model = worded(centred=True)
    refer(model, pictures[:3], TEXTS[:1])
    refer(model, pictures, TEXTS)
    assert model.encode_images(pictures).embedding.mean(0).abs().max() < 1e-6
    assert model.encode_texts(TEXTS).mean(0).abs().max() < 1e-6


def test_a_saved_model_keeps_them(model: DualStream, pictures: torch.Tensor, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    again = load(str(tmp_path))
    torch.testing.assert_close(
        again.encode_images(pictures).embedding, model.encode_images(pictures).embedding
    )
    torch.testing.assert_close(again.encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_an_exported_stream_has_its_centre(model: DualStream, pictures: torch.Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    export_stream(model, "image", tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"), providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    (vectors,) = session.run(None, {name: pictures.numpy()})
    torch.testing.assert_close(torch.from_numpy(vectors), model.encode_images(pictures).embedding)
