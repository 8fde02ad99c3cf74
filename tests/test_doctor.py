"""`vlfew doctor` says what would be in the way, and finds nothing where nothing is."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.encoders.conftest import clip_folder  # noqa: F401
from tests.training.conftest import config, images  # noqa: F401
from vlfew.cli import main
from vlfew.core.errors import DataError, RunError
from vlfew.data.file_hashes import verified
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.doctor import Finding, examine
from vlfew.workflows.train import train


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog", "fox", "hen", "owl", "pig", "yak")):
        (root / name).mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (12, 12), (30 * number, 10 * n, 5)).save(root / name / f"{n}.png")
    return root


def problems(findings: list[Finding]) -> list[str]:
    return [f"{f.topic}: {f.text}" for f in findings if f.level == "problem"]


def notes(findings: list[Finding]) -> list[str]:
    return [f"{f.topic}: {f.text}" for f in findings if f.level == "note"]


def test_the_installation_alone() -> None:
    assert not problems(examine())
    assert {f.topic for f in examine()} >= {"versions", "device", "cache"}


def test_a_good_folder_has_no_problems(pets: Path) -> None:
    findings = examine(str(pets))
    assert not problems(findings)
    assert any(f.topic == "test" and f.text == "2 classes, 8 images, 4 to 4 per class" for f in findings)
    assert notes(findings) == [
        "training: 'vlfew train folder' needs changes: folder: split 'train' has 3 classes, and "
        "sampling.classes_per_batch needs 8; set sampling.classes_per_batch=3 or fewer",
        "few-shot: not with its defaults: 5-way episodes need 5 classes, but the split has 2; set ways=2 or fewer",
    ]
    assert examine("folder", root=pets)[3:] == findings[4:]  # without the line that says what it was taken as


def test_everything_in_the_way_of_a_folder(pets: Path) -> None:
    shutil.copy(pets / "cat/0.png", pets / "dog/9.png")
    (pets / "cat" / "broken.png").write_bytes(b"no image")
    (pets / "hen" / "notes.txt").write_text("x")
    (pets / "S7").mkdir()
    Image.new("RGB", (12, 12), "white").save(pets / "S7" / "0.png")
    (pets / "classes.yaml").write_text("fox: the same\nowl: the same\n")
    findings = examine(str(pets), data_options=["data.test_fraction=0.3"])
    found = " | ".join(problems(findings))
    assert "unreadable: 1 image (cat/broken.png: cannot be read: not an image that Pillow" in found
    assert "duplicates: 1 image in two classes (cat/0.png and dog/9.png)" in found
    assert "texts: classes 'the same (fox)' and 'the same (owl)' have the same text" in found
    noted = " | ".join(notes(findings))
    assert "1 file set aside: hen/notes.txt" in noted and "looks like a code: S7" in noted
    assert "1 class with one image: nothing is left as a query" in noted


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images in folders named after their classes" in problems(examine(str(tmp_path / "empty")))[0]
    with pytest.raises(
        DataError, match="there is no run folder, data source, folder or model 'glyps'; did you mean"
    ):
        examine("glyps")
    assert "there is no model" in problems(examine(str(tmp_path / "nowhere")))[0]


def test_a_model(clip_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    assert not problems(examine(str(clip_folder)))
    for damage, message in (("nan", "NaN or infinite"), ("lfs", "Git LFS"), ("cut", "cut short")):
        folder = shutil.copytree(clip_folder, tmp_path / damage)
        weights = folder / "open_clip_model.safetensors"
        if damage == "nan":
            save_file(
                {name: torch.full_like(t, torch.nan) for name, t in load_file(weights).items()}, weights
            )
        elif damage == "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        else:
            weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
        assert any(message in problem for problem in problems(examine(str(folder)))), damage


def test_a_run(config: Path, tmp_path: Path) -> None:  # noqa: F811
    run = train(
        config, ["optim.steps=2", "optim.warmup_steps=1", "training.eval_every=2"], tmp_path / "runs"
    ).path
    findings = examine(str(run))
    assert not problems(findings) and ("ok", "run", f"{run} is finished") in findings
    (run / "results.json").unlink()
    assert "trained, without results" in notes(examine(str(run)))[0]
    description = json.loads((run / "model.json").read_text())
    description["metadata"]["data_fingerprint"] = "other"
    (run / "model.json").write_text(json.dumps(description))
    assert "not what the run was trained on (other)" in problems(examine(str(run)))[0]
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-9])
    assert any("model.safetensors is damaged" in problem for problem in problems(examine(str(run))))
    for name in ("model.json", "model.safetensors"):
        (run / name).unlink()
    newest = max((run / "checkpoints").glob("step-*.safetensors"))
    assert "unfinished, with checkpoint" in notes(examine(str(run)))[0]
    moved = run.rename(run.parent / "moved run")
    (note,) = [note for note in notes(examine(str(moved))) if "unfinished" in note]
    command = note.partition("go on with: vlfew ")[2]
    assert command == f"train '{moved}/config.yaml' --runs {moved.parent} name='moved run'"
    config.unlink()  # the command needs the run folder alone
    with pytest.raises(SystemExit, match="0"):
        main(shlex.split(command))
    assert RunFolder(moved).state == "finished" and [*moved.parent.iterdir()] == [moved]
    for file in ("config.yaml", "results.json", "model.json"):
        (moved / file).unlink()
    newest = moved / "checkpoints" / newest.name
    newest.write_bytes(b"")
    missing, damaged = problems(examine(str(moved)))
    assert "config.yaml" in missing and "is damaged" in damaged


def test_a_finished_run_is_compared_with_its_data(config: Path, tmp_path: Path, images: Path) -> None:  # noqa: F811
    root = shutil.copytree(images, tmp_path / "images")
    arguments = (config, [f"data.root={root}", "optim.steps=2", "optim.warmup_steps=1"], tmp_path / "runs")
    train(*arguments)
    with verified():
        assert train(*arguments).state == "finished"
        next(root.rglob("0.png")).unlink()
        with pytest.raises(RunError, match="is finished, and its data have changed since"):
            train(*arguments)
    assert train(*arguments).state == "finished"


def test_the_status_and_the_count(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for expected, count in ((0, "0 problems, 2 notes"), (1, "1 problem, 2 notes")):
        with pytest.raises(SystemExit) as done:
            main(["doctor", str(pets), "--verify"])
        assert done.value.code == expected and capsys.readouterr().out.strip().endswith(count)
        (pets / "cat" / "broken.png").write_bytes(b"no image")


def test_images_with_boxes_are_counted_by_their_objects(tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (20, 20), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.2 0.2\n")
    (tmp_path / "b.txt").write_text("1 0.2 0.2 0.2 0.2\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    findings = examine("coco", root=tmp_path, data_options={"test_fraction": 0})
    assert not problems(findings)
    texts = [f.text for f in findings if f.topic == "train"]
    assert texts == ["2 classes, 3 images, 3 objects, 0 to 2 per image"]
    assert any(
        n.startswith("few-shot") and n.endswith("data.crops=true makes an image of each object")
        for n in notes(findings)
    )
