"""What the check says of models: of good ones, of faulty ones, and of those that have nothing to compare with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import vlfew
from tests.encoders.conftest import clip_folder
from vlfew.cli import main
from vlfew.core.errors import ModelError
from vlfew.models import save_model
from vlfew.models.dual_stream import DualStream
from vlfew.models.spec import ModelSpec
from vlfew.workflows.check_model.workflow import check_model

__all__ = ["clip_folder"]


def by_name(checked: Any) -> dict[str, bool]:
    return {check.what: check.passed for check in checked.checks}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["check-model", *arguments])
    return int(exit_.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_towers_in_packages_have_their_stored_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DualStream, "fit_pretraining_classes", lambda self: None)  # of texts; slow
    checked = check_model(name)
    expected = ["preprocessed pixels", "image embeddings", "text embeddings"]
    assert [check.what for check in checked.checks] == expected
    assert checked.passed, checked.checks


FAULTS: dict[str, tuple[str, Any, list[str]]] = {
    "other interpolation": ("interpolation", "bilinear", ["preprocessed pixels", "image embeddings"]),
    "crop first": ("resize_first", None, ["preprocessed pixels", "image embeddings"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_way_to_read_images_is_found(
    fault: str, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, value, found = FAULTS[fault]
    proper = ModelSpec.preprocessor
    monkeypatch.setattr(ModelSpec, "preprocessor", lambda self: replace(proper(self), **{field: value}))
    checked = by_name(check_model(f"open_clip:{clip_folder}"))
    assert [what for what, passed in checked.items() if not passed][:2] == found
    assert checked["tokens"] and checked["text embeddings"]


def test_other_statistics_tokens_and_weights_are_found(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proper = DualStream.from_spec.__func__  # type: ignore[attr-defined]

    def faulty(cls: type[DualStream], spec: ModelSpec) -> DualStream:
        model: DualStream = proper(cls, spec)
        model.pixel_std *= 1.001
        encoder: Any = model.text_encoder
        tokenizer = encoder.tokenizer
        encoder.tokenizer = lambda texts: tokenizer([text.replace("cat", "dog") for text in texts])
        return model

    monkeypatch.setattr(DualStream, "from_spec", classmethod(faulty))
    status, out, _ = run(capsys, f"open_clip:{clip_folder}", "--json")
    result = json.loads(out)
    failed = [check["what"] for check in result["checks"] if not check["passed"]]
    assert status == 1 and not result["passed"]
    assert failed[:3] == ["preprocessed pixels", "image embeddings", "tokens"]
    assert result["checks"][2]["largest_difference"] == 1  # of the texts


def test_the_command_prints_a_table(clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, f"open_clip:{clip_folder}")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 6 and all(line.rstrip().endswith("pass") for line in lines[1:])
    assert "open_clip's transform, of the files" in lines[1] and "open_clip's get_tokenizer" in lines[3]
    assert "reads no EXIF orientation" in err


def test_a_model_without_text(tmp_path: Path) -> None:
    timm.models.save_for_hf(timm.create_model("test_vit"), tmp_path, model_config={})
    checked = check_model(str(tmp_path))
    assert by_name(checked) == {"preprocessed pixels": True, "image embeddings": True}
    assert "no text encoder: images alone are checked" in checked.notes


def test_a_saved_model_has_the_weights_of_its_towers(clip_folder: Path, tmp_path: Path) -> None:
    folder, saved = tmp_path / "clip", tmp_path / "run"
    shutil.copytree(clip_folder, folder)
    model = vlfew.load(f"open_clip:{folder}")
    save_model(model, saved)
    checked = check_model(str(saved))
    assert checked.passed and set(by_name(checked)) == {
        "weights of the image encoder",
        "pixel statistics",
        "weights of the text encoder",
        "preprocessed pixels",
        "image embeddings",
        "tokens",
        "text embeddings",
        "similarities",
    }
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(1.01)
    model.fingerprint = None
    save_model(model, saved)
    assert [what for what, passed in by_name(check_model(str(saved))).items() if not passed] == [
        "weights of the image encoder"
    ]
    model.spec.backbone_frozen = False
    save_model(model, saved)
    checked = check_model(str(saved))
    assert checked.passed and "tokens" in by_name(checked) and "preprocessed pixels" not in by_name(checked)
    assert any("was trained further here" in note for note in checked.notes)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="no such folder"):
        check_model(str(saved))


def test_a_saved_model_that_reads_images_otherwise(tmp_path: Path) -> None:
    folder, saved = tmp_path / "net", tmp_path / "run"
    timm.models.save_for_hf(timm.create_model("test_efficientnet"), folder, model_config={})
    model = vlfew.load(f"timm:{folder}")  # with batch normalization, whose counter is a single number
    model.spec.resize, model.spec.center_crop = "stretch", 0.5
    save_model(model, saved)
    checked = check_model(str(saved))
    assert checked.passed
    (note,) = (note for note in checked.notes if "is used otherwise than published" in note)
    assert "resize stretch (published crop)" in note and "center_crop 0.5" in note
    model.pixel_mean.add_(1)
    model.fingerprint = None
    save_model(model, saved)
    assert by_name(check_model(str(saved)))["pixel statistics"] is False


def test_nothing_to_compare_with_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ModelSpec(backbone="conv4", embedding_dim=None)
    save_model(DualStream.from_spec(spec), tmp_path)
    for name, message in (
        (str(tmp_path), "nothing to compare with, as no tower has published weights"),
        ("open_clip:ViT-B-32", "has random weights, drawn anew each time"),
        ("timm:someone/net", "--download asks for it"),
        ("transformers:./nowhere", "no such folder"),
        ("efficientnet_lite7", "there is no model"),
    ):
        status, out, err = run(capsys, name)
        assert (status, out) == (2, "")
        assert message in err and err.count("\n") == 1, err


def test_nothing_is_downloaded_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen = []
    monkeypatch.setattr(
        "vlfew.workflows.check_model.workflow.load",
        lambda name: seen.append(constants.is_offline_mode()) or 1 / 0,
    )
    for download in (False, True):
        with pytest.raises(ZeroDivisionError):
            check_model("timm:someone/net", download=download)
    assert seen == [True, False]
