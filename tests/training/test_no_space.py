"""A full disk and a place that takes no files: one line at every door, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_data
from tests.test_cli import fails, succeeds
from tests.training.conftest import ENVIRONMENT
from vlfew.cli import main
from vlfew.core.errors import WriteError
from vlfew.evaluation.feature_cache import cached_split_features
from vlfew.models import DualStream, ModelSpec
from vlfew.models.serialization import fingerprint_of
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.train import train


@pytest.fixture
def no_space_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the disk full for files of a name, until it is called with another."""
    replace, full = os.replace, [""]

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    return lambda name: full.__setitem__(0, name)


def test_training_stops_keeps_its_checkpoint_and_resumes(
    config: Path,
    tmp_path: Path,
    no_space_for: Callable[[str], None],
) -> None:
    for name, kept in (
        ("best.json", "no checkpoint was saved yet"),
        ("step-00000020.safetensors", "the checkpoint of step 10 is kept"),
        ("report.html", "the trained model is kept"),
    ):
        no_space_for(name)
        with pytest.raises(
            WriteError, match=f"{name}.* the disk is full .*{kept}.*run the same command again to"
        ):
            train(config, runs=tmp_path)
        assert not list((tmp_path / "small").rglob("*.part"))
    no_space_for("")
    assert train(config, runs=tmp_path).state == "finished"


def test_a_search_is_not_told_that_its_values_are_bad(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_space_for: Callable[[str], None],
) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "space.yaml").write_text("optim.lr: {choices: [0.01, 0.02]}")
    arguments = ["tune", str(config), "--space", str(tmp_path / "space.yaml"), "--trials", "2"]
    arguments += ["--runs", str(tmp_path), "optim.steps=10"]
    no_space_for("model.safetensors")
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "the disk is full" in (line := capsys.readouterr().err.splitlines()[-1])
    assert "finished trials are kept; run the same command again" in line
    no_space_for("")
    out, _ = succeeds(capsys, *arguments)
    assert "best     trial" in out


def test_files_that_are_too_large_for_the_process(config: Path, tmp_path: Path) -> None:
    """As a full disk, but real: `ulimit -f` fails inside safetensors."""
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-m", "vlfew.cli", "train", config, "--runs", tmp_path / "runs"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"},  # it would be cut off too
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)),
    )
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "best.safetensors cannot be written: files may not become that large" in line
    assert not list((tmp_path / "runs").rglob("*.part")) + list((tmp_path / "runs").rglob("best*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_to_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vlfew.cli", "recipes"], stdout=full, stderr=-1, text=True, env=ENVIRONMENT
        )
    assert done.returncode == 2
    assert done.stderr == "vlfew: the output cannot be written: the disk is full; make space there\n"


def test_a_cache_that_cannot_be_written_is_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("vlfew.core.console._NOTED", set())
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    model, data = DualStream.from_spec(spec).eval(), make_data()
    for split in ("val", "test"):
        assert len(cached_split_features(model, data, split)) == len(data.indices(split))
    (line,) = capsys.readouterr().err.splitlines()
    assert "features are not cached" in line and f"{tmp_path / 'file'} is a file" in line


def test_the_fingerprint_of_a_model_needs_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    model = DualStream.from_spec(spec)
    before = fingerprint_of(model)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert fingerprint_of(model) == before


@pytest.mark.parametrize(
    "arguments, flag",
    [
        (["report", "runs/x", "--out", "{}/new/a.html"], "--out"),
        (["report", "runs/x", "--json", "{}/a.json"], "--json"),
        (["evaluate", "few-shot", "runs/x", "--csv", "{}/a.csv"], "--csv"),
        (["evaluate", "few-shot", "runs/x", "--per-episode", "{}/a.npy"], "--per-episode"),
        (["adapt", "runs/x", "--data", "glyphs", "--out", "{}/a"], "--out"),
        (["export", "runs/x", "--stream", "image", "--out", "{}/a.onnx"], "--out"),
        (["push", "runs/x", "me/it", "--dry-run", "{}/a"], "--dry-run"),
        (["train", "quickstart", "--runs", "{}/runs"], "--runs"),
    ],
)
def test_a_place_that_takes_no_files_is_told_before_any_work(
    arguments: list[str], flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no model `runs/x`: its place is not even looked at."""
    file = tmp_path / "file"
    file.touch()
    line = fails(capsys, *(a.format(file) for a in arguments))
    assert line.endswith(f"cannot be written: {file} is a file, not a folder; name another place with {flag}")


def test_the_working_folder_is_checked_for_what_a_command_writes_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "comparison.html cannot be written" in fails(capsys, "report", "runs/x")
    assert "is read-only; name another place with --runs" in fails(capsys, "train", "quickstart")


def test_a_finished_run_is_shown_where_nothing_can_be_written(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(config, ["optim.steps=2"], runs=tmp_path)
    (tmp_path / "small" / ".lock").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    train(config, ["optim.steps=2"], runs=tmp_path)
    assert "is finished; its results" in capsys.readouterr().err
    assert not (tmp_path / "small" / ".lock").exists()


def test_data_are_described_where_their_sheet_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    no_space_for: Callable[[str], None],
) -> None:
    for number in range(6):
        path = tmp_path / "pets" / f"kind {'abcdef'[number]}" / "1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (20, 30), (40 * number, 80, 99)).save(path)
    monkeypatch.chdir(tmp_path)
    no_space_for("folder.png")
    show = ["data", "show", "folder", "--root", str(tmp_path / "pets")]
    for further, status in ([], 1), (["--sheet", str(tmp_path / "pets/kind a/1.png/sheet.png")], 2):
        with pytest.raises(SystemExit) as error:
            main([*show, *further])
        out, err = capsys.readouterr()
        assert error.value.code == status and "images     6 of" in out and "resized" in out
        (line,) = err.splitlines()
        assert "cannot be written" in line
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "folder.png").exists()


def test_a_comparison_is_printed_before_it_is_saved(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_space_for: Callable[[str], None],
) -> None:
    run: RunFolder = train(config, ["optim.steps=2", "evaluate=[]"], runs=tmp_path)
    shutil.rmtree(run.checkpoints)
    capsys.readouterr()
    no_space_for("adapt.json")
    with pytest.raises(SystemExit) as error:
        main(
            [
                "adapt",
                str(run.path),
                "--methods",
                "prototypes",
                "--shots",
                "1",
                "--repeats",
                "2",
                "--no-cache",
            ]
        )
    out, err = capsys.readouterr()
    assert error.value.code == 2 and "prototypes" in out and "the disk is full" in err.splitlines()[-1]
    no_space_for("a.npy")
    line = ["evaluate", "few-shot", str(run.path), "--ways", "2", "--queries", "2", "--episodes", "3"]
    with pytest.raises(SystemExit) as error:
        main([*line, "--per-episode", str(tmp_path / "a.npy")])
    assert error.value.code == 2 and "; the accuracy is " in capsys.readouterr().err
