"""`vlfew adapt` on the command line."""

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
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import save_model
from vlfew.models.spec import ModelSpec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A run folder with an untrained model, saved as trained on a folder of images."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    save_model(DualStream.from_spec(spec), folder, {"trained_on": "folder/train", "outside_data": False})
    return folder


@pytest.fixture
def command(run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ["adapt", str(run), "--data", "folder", "--root", str(images), "--repeats", "2"]


def runs(*arguments: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    assert error.value.code == 0


def test_table_json_and_page(capsys, run: Path, command: list[str], tmp_path: Path) -> None:
    runs(*command, "--shots", "1,2", "--methods", "prototypes")
    out, err = capsys.readouterr()
    assert "prototypes" in out and "2 shots, %" in out
    assert "split 'val'" in err and "adapt.html" in err
    folder = run / "adapt" / "folder"
    found = json.loads((folder / "adapt.json").read_text())
    assert found["trained_on"] == "folder/train" and found["classes"] == 4 and len(found["cells"]) == 2
    assert (folder / "adapt.html").read_text().startswith("<!doctype html>")
    cached = list((tmp_path / "cache" / "vlfew" / "features").glob("*.safetensors"))
    assert len(cached) == 2
    # The recorded command gives the same results, from the cache or without it.
    words = shlex.split(found["command"])
    assert words[0] == "vlfew"
    runs(*words[1:], "--no-cache", "--out", str(tmp_path / "again"))
    again = json.loads((tmp_path / "again" / "adapt.json").read_text())
    assert [c["accuracy"] for c in again["cells"]] == [c["accuracy"] for c in found["cells"]]
    assert again["command"] == found["command"]
    # The same command replaces the results; another one renames them.
    runs(*words[1:], "--json", str(tmp_path / "table.json"))
    assert (tmp_path / "table.json").read_bytes() == (folder / "adapt.json").read_bytes()
    assert not list(folder.glob("adapt-*"))
    capsys.readouterr()
    runs(*command, "--shots", "1,2", "--methods", "prototypes", "--tune-on", "none")
    assert f"the earlier comparison is now {folder / 'adapt-1.json'}" in capsys.readouterr().err
    assert json.loads((folder / "adapt-1.json").read_text())["command"] == found["command"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "adapt-1.html", "adapt-1.json", "adapt.html", "adapt.json"
    ]  # fmt: skip


def test_methods_with_text_are_skipped_without_text(capsys, command: list[str], tmp_path: Path) -> None:
    runs(*command, "--shots", "1", "--out", str(tmp_path / "out"), "--tune-on", "none", "--ways", "2")
    found = json.loads((tmp_path / "out" / "adapt.json").read_text())
    assert "prototypes" in found["methods"] and found["classes"] == 2
    assert not set(found["methods"]) & set(found["skipped_methods"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "1,x"], "adapt: shots='x'"),
        (["--shots", "2,1"], "ascend"),
        (["--shots", "1,9"], "has 6 images in split 'test'"),
        (["--shots", "1", "--repeats", "0"], "repeats is 0"),
        (["--ways", "few"], "adapt: ways='few'"),
        (["--shots", "1", "--methods", "prototype"], "did you mean 'prototypes'?"),
        (["--methods", ""], "unknown method ''"),
        (["--shots", "1", "--split", "tset"], "did you mean 'test'?"),
        (["--shots", "1", "--prototypes.metric", "cosin"], "prototypes: metric='cosin'"),
        (["--shots", "1", "--base-to-new"], "no text encoder"),
    ],
)
def test_mistakes_are_one_line(capsys, command: list[str], arguments: list[str], message: str) -> None:
    assert message in fails(capsys, *command, *arguments)


def test_a_published_model_needs_a_folder_for_results(capsys) -> None:
    line = fails(capsys, "adapt", "open_clip:ViT-B-32/none", "--data", "glyphs")
    assert "is not a run folder to save results in; name a folder with --out" in line


def test_fine_tuning_methods_by_name_and_their_transfer(
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
    save_model(DualStream.from_spec(ModelSpec.model_validate(spec | {"text": text})), tmp_path / "run", {})
    command = ["adapt", str(tmp_path / "run"), "--data", "folder", "--root", str(named), "--shots", "2"]
    command += ["--repeats", "1", "--base-to-new", "--tune-on", "none", "--methods", "zero_shot,coop,lora"]

    def accuracies(*options: str) -> dict[str, dict[str, float]]:
        runs(*command, *(f"--{setting}" for setting in options), "--out", str(tmp_path / "out"))
        cells = json.loads((tmp_path / "out" / "adapt.json").read_text())["cells"]
        return {c["method"]: {"accuracy": c["accuracy"]["mean"], "new": c["new"]["mean"]} for c in cells}

    untrained = accuracies("coop.steps=0", "coop.context=a", "lora.steps=0", "lora.prompt=a {}")
    assert untrained["coop"] == untrained["lora"]
    trained = accuracies("coop.steps=40", "coop.lr=0.5", "lora.steps=40", "lora.lr=0.05", "lora.dropout=0")
    assert trained["lora"]["accuracy"] > untrained["lora"]["accuracy"]
    assert trained["zero_shot"] == untrained["zero_shot"]
