"""ONNX files are compared with their model. Exports are slow, so all tests share one of each stream."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.compare import assert_close
from vlfew.cli import main
from vlfew.core.errors import ModelError
from vlfew.models import DualStream, ModelSpec, save_model
from vlfew.models.export import TOLERANCE, export_stream
from vlfew.models.spec import TextSpec

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def built(seed: int = 0, **options: Any) -> DualStream:
    torch.manual_seed(seed)
    known = {"backbone": "conv4", "backbone_options": {"width": 4}, "embedding_dim": 8, "image_size": 16}
    model = DualStream.from_spec(ModelSpec(**known | {"tta": "hflip"} | options))
    model.set_pixel_statistics(torch.tensor([200.0]), torch.tensor([50.0]))
    return model.eval()


def run_onnx(path: Path, **inputs: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(["vectors"], {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(vectors)


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported by the command line."""
    folder = tmp_path_factory.mktemp("export")
    save_model(built(), folder / "run")
    Image.new("L", (20, 20), 99).save(folder / "a.png")
    file = folder / "out" / "image.onnx"
    with pytest.raises(SystemExit) as done:
        main(["export", str(folder / "run"), "--stream", "image", "--out", str(file), "--check", str(folder)])
    assert done.value.code == 0
    return file


def test_the_image_stream_equals_the_model(image_file: Path) -> None:
    model = built()
    for count in (1, 7):
        images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8)
        found = run_onnx(image_file, images=images)
        assert_close(found, model.encode_image(images))
    metadata = json.loads(image_file.with_suffix(".json").read_text())
    assert metadata["dim"] == found.shape[1] == 16 and 0 <= metadata["largest_difference"] < TOLERANCE
    assert metadata["inputs"] == {"images": "uint8, 0 to 255, [batch, 1, 16, 16]"}
    assert metadata["preprocessing"] == {"resize": "stretch", "center_crop": 1.0, "interpolation": "bilinear"}
    assert sorted(p.name for p in image_file.parent.iterdir()) == ["image.json", "image.onnx"]


def test_the_text_stream_takes_any_number_and_length_of_texts(tmp_path: Path, bert_folder: Path) -> None:
    from tokenizers import Tokenizer

    model = built(text=TextSpec(encoder=f"hf:{bert_folder}", projection="linear"))
    assert export_stream(model, "text", tmp_path / "text.onnx") < TOLERANCE
    tokenizer = Tokenizer.from_file(str(tmp_path / "text.tokenizer.json"))
    assert model.text_encoder is not None
    for texts in (["a cat"], ["the mug", "a photo of a small green letter", "a dog"]):
        tokens = model.text_encoder.tokenize(texts)
        found = run_onnx(tmp_path / "text.onnx", **tokens)
        assert_close(found, model.encode_text(texts))
        true = tokens["attention_mask"][0] == 1
        assert tokenizer.encode(texts[0]).ids[: int(true.sum())] == tokens["input_ids"][0][true].tolist()
    metadata = json.loads((tmp_path / "text.json").read_text())
    assert metadata["inputs"]["input_ids"] == "int64, [batch, length]" and metadata["dim"] == 16


def test_a_file_that_differs_is_not_written(
    image_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vlfew.models.export.write_onnx", lambda _job, path, _name: shutil.copy(image_file, path)
    )
    file = tmp_path / "image.onnx"
    with pytest.raises(ModelError, match=r"image\.onnx is not written: .* differ .* by up to") as caught:
        export_stream(built(seed=1), "image", file)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    assert export_stream(built(), "image", file) < TOLERANCE and file.is_file()


def test_the_file_is_checked_with_real_images(
    image_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that differs from its file on images of one gray level fails on such an image."""
    monkeypatch.setattr(
        "vlfew.models.export.write_onnx", lambda _job, path, _name: shutil.copy(image_file, path)
    )
    model = built()
    encode_pixels = model.encode_pixels

    def odd(images: Tensor) -> Any:
        features = encode_pixels(images)
        if bool((images == images[0, 0, 0, 0]).all()):
            features.embedding = -features.embedding
        return features

    monkeypatch.setattr(model, "encode_pixels", odd)
    export_stream(model, "image", tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="differ"):
        export_stream(model, "image", tmp_path / "b.onnx", torch.full((1, 1, 16, 16), 9, dtype=torch.uint8))


def test_a_failed_export_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no decomposition\nfor this operator")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ModelError, match=r"^conv4 cannot be exported to ONNX: no decomposition$"):
        export_stream(built(), "image", tmp_path / "image.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_parts_are_reported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no text stream"):
        export_stream(built(), "text", tmp_path / "text.onnx")
    monkeypatch.setattr("vlfew.models.export.find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(ModelError, match=r"needs onnx: pip install 'vlfew\[export\]'"):
        export_stream(built(), "image", tmp_path / "image.onnx")


def test_images_cannot_check_the_text_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(built(), tmp_path / "run")
    out = str(tmp_path / "text.onnx")
    with pytest.raises(SystemExit) as wrong:
        main(["export", str(tmp_path / "run"), "--stream", "text", "--out", out, "--check", "a.png"])
    assert wrong.value.code == 2 and "--check takes images" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.onnx", "image.json"])
def test_an_export_overwrites_nothing_else(tmp_path: Path, name: str) -> None:
    """Such as a run's own model.json."""
    (tmp_path / "model.json").write_text('{"format": 1}')
    with pytest.raises(ModelError, match=r"choose another name|must end in .onnx"):
        export_stream(
            DualStream.from_spec(ModelSpec(backbone="conv4", image_size=16)), "image", tmp_path / name
        )
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]
    assert (tmp_path / "model.json").read_text() == '{"format": 1}'
