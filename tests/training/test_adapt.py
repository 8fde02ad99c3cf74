"""`vlfew adapt` as its users meet it."""

from __future__ import annotations

import json
import shlex
import shutil
from itertools import permutations
from pathlib import Path

import pytest
import torch
import yaml

from tests.test_cli import fails
from vlfew.cli import main
from vlfew.models.build import build_model
from vlfew.models.serialization import save_model
from vlfew.models.spec import ModelSpec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder with an untrained model of images, told as trained on such."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    save_model(build_model(spec), folder, {"trained_on": "folder/train", "outside_data": False})
    return folder


@pytest.fixture
def command(run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ["adapt", str(run), "--data", "folder", "--root", str(images), "--shots", "1,2", "--repeats", "2"]


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
    # Made again by its own command it is replaced; by another one, it is kept.
    runs(*words[1:])
    assert not list(folder.glob("adapt-*"))
    capsys.readouterr()
    runs(*command, "--methods", "prototypes", "--tune-on", "none")
    assert f"the comparison that was there is {folder / 'adapt-1.json'} now" in capsys.readouterr().err
    assert json.loads((folder / "adapt-1.json").read_text())["command"] == found["command"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "adapt-1.html", "adapt-1.json", "adapt.html", "adapt.json"
    ]  # fmt: skip


def test_without_words_the_rest_is_compared(capsys, command: list[str], tmp_path: Path) -> None:
    runs(*command, "--out", str(tmp_path / "out"), "--tune-on", "none", "--ways", "2")
    found = json.loads((tmp_path / "out" / "adapt.json").read_text())
    assert "prototypes" in found["methods"] and found["classes"] == 2
    assert not set(found["methods"]) & set(found["left_out"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shots", "1,x"], "--shots takes ascending numbers such as 1,2,4,8,16, not '1,x'"),
        (["--shots", "2,1"], "ascend"),
        (["--shots", "1,9"], "has 6 images in split 'test'"),
        (["--repeats", "0"], "repeats is 0"),
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


def test_tuners_come_by_name_and_answer_for_new_classes(
    images: Path, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    named = shutil.copytree(images, tmp_path / "named")
    words = [" ".join(pair) for pair in permutations(("cat", "mug", "dog", "green", "bus"), 2)]
    folders = sorted(path.name for path in named.glob("*/*") if path.is_dir())
    (named / "classes.yaml").write_text(yaml.safe_dump(dict(zip(folders, words, strict=False))))
    torch.manual_seed(0)
    text = {"encoder": f"hf:{bert_folder}", "projection": "linear"}
    spec = {"backbone": "conv4", "backbone_options": {"width": 4}, "embedding_dim": 8, "image_size": 16}
    save_model(build_model(ModelSpec.model_validate(spec | {"text": text})), tmp_path / "run", {})
    told = ["adapt", str(tmp_path / "run"), "--data", "folder", "--root", str(named), "--shots", "2"]
    told += ["--repeats", "1", "--base-to-new", "--tune-on", "none", "--methods", "zero_shot,coop,lora"]

    def found(*fixed: str) -> dict[str, dict[str, float]]:
        runs(
            *told, *(word for setting in fixed for word in ("--fix", setting)), "--out", str(tmp_path / "out")
        )
        cells = json.loads((tmp_path / "out" / "adapt.json").read_text())["cells"]
        return {c["method"]: {"accuracy": c["accuracy"]["mean"], "new": c["new"]["mean"]} for c in cells}

    untrained = found("coop.steps=0", "coop.context=a", "lora.steps=0", "lora.prompt=a {}")
    assert untrained["coop"] == untrained["lora"]
    trained = found("coop.steps=40", "coop.lr=0.5", "lora.steps=40", "lora.lr=0.05", "lora.dropout=0")
    assert trained["lora"]["accuracy"] > untrained["lora"]["accuracy"]
    assert trained["zero_shot"] == untrained["zero_shot"]
