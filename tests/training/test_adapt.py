"""`vlfew adapt` as its users meet it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from tests.test_cli import fails
from vlfew.cli import main
from vlfew.models.dual_stream import ModelSpec, build_model
from vlfew.models.saved import save_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with an untrained model of pictures, told as trained on such."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    save_model(build_model(spec), folder, {"trained_on": "folder/train", "outside_data": False})
    return folder


@pytest.fixture
def command(run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ["adapt", str(run), "--data", "folder", "--root", str(pictures), "--shots", "1,2", "--seeds", "2"]


def runs(*arguments: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    assert error.value.code == 0


def test_table_json_and_page(capsys, run: Path, command: list[str], tmp_path: Path) -> None:
    runs(*command, "--methods", "prototypes")
    out, err = capsys.readouterr()
    assert "prototypes" in out and "2 shots, %" in out
    assert "split 'val'" in err and "adapt.html" in err
    folder = run / "adapt" / "folder"
    found = json.loads((folder / "adapt.json").read_text())
    assert found["trained_on"] == "folder/train" and found["classes"] == 4 and len(found["cells"]) == 2
    assert (folder / "adapt.html").read_text().startswith("<!doctype html>")
    kept = list((tmp_path / "cache" / "vlfew" / "features").glob("*.safetensors"))
    assert len(kept) == 2
    # The command that stands in the results makes the same figures again, from the cache or without it.
    words = shlex.split(found["command"])
    assert words[0] == "vlfew"
    runs(*words[1:], "--no-cache", "--out", str(tmp_path / "again"))
    again = json.loads((tmp_path / "again" / "adapt.json").read_text())
    assert [c["accuracy"] for c in again["cells"]] == [c["accuracy"] for c in found["cells"]]
    assert again["command"] == found["command"]


def test_without_words_the_rest_is_compared(capsys, command: list[str], tmp_path: Path) -> None:
    runs(*command, "--out", str(tmp_path / "out"), "--choose", "fixed", "--ways", "2")
    found = json.loads((tmp_path / "out" / "adapt.json").read_text())
    assert "prototypes" in found["methods"] and found["classes"] == 2
    assert not set(found["methods"]) & set(found["left_out"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shots", "1,x"], "--shots takes ascending numbers such as 1,2,4,8,16, not '1,x'"),
        (["--shots", "2,1"], "ascend"),
        (["--shots", "1,9"], "has 6 pictures in split 'test'"),
        (["--seeds", "0"], "seeds is 0"),
        (["--ways", "few"], "--ways is a number"),
        (["--methods", "prototype"], "did you mean 'prototypes'?"),
        (["--methods", ""], "unknown method ''"),
        (["--split", "tset"], "did you mean 'test'?"),
        (["--fix", "prototypes.metrc=cosine"], "did you mean 'metric'?"),
        (["--base-to-new"], "no text stream"),
    ],
)
def test_refusals(capsys, command: list[str], arguments: list[str], said: str) -> None:
    assert said in fails(capsys, *command, *arguments)


def test_a_model_that_is_no_folder(capsys) -> None:
    line = fails(capsys, "adapt", "open_clip:ViT-B-32/none", "--data", "glyphs")
    assert "no run folder that results could go into; name one with --out" in line
