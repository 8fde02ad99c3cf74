"""A frozen backbone run by ONNX Runtime gives PyTorch's embeddings, or PyTorch runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.compare import assert_close
from tests.conftest import make_data
from vlfew.core.errors import ModelError
from vlfew.evaluation.feature_bank import encode_subset, model_inputs
from vlfew.models import DualStream, ModelSpec, onnx_backbone
from vlfew.models.backbone_cache import BackboneCache


@pytest.fixture
def model() -> DualStream:
    torch.manual_seed(0)
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, backbone_frozen=True, image_size=16)
    return DualStream.from_spec(spec).eval()


def test_the_embeddings_are_those_of_pytorch_and_the_file_is_kept(
    model: DualStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vlfew.models.backbone_cache.MIN_ONNX_IMAGES", 1)
    data = make_data(2, 5)
    index = torch.arange(10)
    with torch.no_grad():
        expected = model.backbone_output(data.images.batch(index)).embedding
    ran: list[int] = []
    output = model.backbone_output
    found = BackboneCache().encode(model, data, index, "all")[index].embedding
    assert_close(found, expected)
    (file,) = (tmp_path / "vlfew" / "backbones").glob("*.onnx")
    monkeypatch.setattr(onnx_backbone, "write_onnx", lambda *_: pytest.fail("exported again"))
    monkeypatch.setattr(model, "backbone_output", lambda pixels: ran.append(len(pixels)) or output(pixels))
    other = torch.arange(9, -1, -1)
    assert_close(BackboneCache().encode(model, data, other, "all")[other].embedding, expected)
    assert ran == [3]  # the comparison alone
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vlfew.models.backbone_cache.MIN_ONNX_IMAGES", 1)
    file.write_bytes(b"damaged")
    assert_close(BackboneCache().encode(model, data, index[:7], "all")[index[:7]].embedding, expected[:7])
    assert file.stat().st_size > 100  # written again


def test_every_view_of_test_time_augmentation_is_cached(
    model: DualStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = DualStream.from_spec(
        model.spec.model_copy(update={"tta": "hflip", "center_embeddings": True})
    ).eval()
    data, index = make_data(2, 5), torch.arange(10)
    model.fit_training_means([data.images.batch(index)], data.labels, [["a"], ["b"]])
    expected = encode_subset(model, data, index, "all").embedding
    model.backbone_cache = BackboneCache()
    assert_close(encode_subset(model, data, index, "all").embedding, expected)
    assert len(list((tmp_path / "vlfew" / "backbones").glob("*.safetensors"))) == 2
    monkeypatch.setattr(model, "backbone_output", lambda _: pytest.fail("encoded again"))
    model.backbone_cache = BackboneCache()
    assert_close(encode_subset(model, data, index, "all").embedding, expected)
    model.fit_training_means(
        [model_inputs(model, data, index, "all")(rows) for rows in index.split(4)],
        data.labels,
        [["a"], ["b"]],
    )
    assert_close(encode_subset(model, data, index, "all").embedding, expected)


def test_pytorch_does_it_where_the_other_differs_or_fails(
    model: DualStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_backbone, "write_onnx", lambda *_: None)
    monkeypatch.setattr(onnx_backbone, "_session", lambda _: lambda pixels: torch.ones(len(pixels), 4))
    assert onnx_backbone.onnx_backbone(model, tmp_path / "a.onnx") is None
    assert "ONNX Runtime's embeddings differ" in capsys.readouterr().err

    def fails(*_: object) -> None:
        raise ModelError("conv4 cannot be exported")

    monkeypatch.setattr(onnx_backbone, "write_onnx", fails)
    monkeypatch.setattr(onnx_backbone, "_session", fails)
    assert onnx_backbone.onnx_backbone(model, tmp_path / "b.onnx") is None
    assert "run by PyTorch, not by ONNX Runtime: conv4 cannot be exported" in capsys.readouterr().err
    monkeypatch.setattr(onnx_backbone, "find_spec", lambda name: None)
    assert onnx_backbone.onnx_backbone(model, tmp_path / "c.onnx") is None
    assert not capsys.readouterr().err
