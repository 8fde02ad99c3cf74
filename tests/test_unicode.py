"""Class names in any script are shown unchanged by data show, results and report."""

from __future__ import annotations

import json
import shlex
import warnings
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import ENVIRONMENT, vlfew
from vlfew.cli import main

CONFIG = """
name: läuft 🏃
data: {{name: folder, root: {root}, image_size: 16, channels: 1}}
image: {{backbone: conv4, width: 4}}
text: {{encoder: null}}
embedding_dim: 8
objective: [{{loss: supervised_contrastive}}]
sampling: {{classes_per_batch: 2, images_per_class: 2}}
optim: {{steps: 4, warmup_steps: 1}}
training: {{eval_every: 2, save_every: 2}}
evaluate: [{{protocol: few-shot, ways: 2, shots: 1, queries: 2, episodes: 20}}]
"""
NAMES = ("naïve café", "🐈\u200d⬛ чёрный кот", "猫", "קפה", "<b>&amp; $x$", "ﬁve\u0301")


def make(root: Path) -> Path:
    """Two classes in each of train, val and test."""
    rng = np.random.default_rng(0)
    for n, name in enumerate(NAMES):
        folder = root / ("train", "val", "test")[n // 2] / name
        folder.mkdir(parents=True)
        pattern = rng.integers(0, 200, (16, 16))
        for k in range(4):
            noisy = pattern + rng.integers(0, 56, (16, 16))
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{k} 🖼.png")
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run `vlfew ...` and expect success; returns its output."""
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert done.value.code == 0, captured.err
    return captured.out


def test_names_in_any_script_are_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "données 📦")
    (tmp_path / "run.yaml").write_text(CONFIG.format(root=root), encoding="utf-8")
    run(capsys, "train", tmp_path / "run.yaml", "--runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "läuft 🏃"
    page = unescape((folder / "report.html").read_text(encoding="utf-8"))
    assert all(name in page for name in NAMES[4:]) and "läuft 🏃" in page

    (result,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    program, *again = shlex.split(result["command"])
    run(capsys, *again, "--json", tmp_path / "again.json")
    (same,) = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert program == "vlfew" and same["accuracy"] == result["accuracy"]

    sheet = tmp_path / "bogen 🐈.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        show = ("data", "show", "folder", "--root", root, "--image-size", 16, "--sheet", sheet)
        out = run(capsys, *show, "--sheet-split", "train")
    assert sheet.is_file() and all(name in out for name in NAMES[2:])


def test_characters_missing_from_the_output_encoding_are_escaped(tmp_path: Path) -> None:
    root = make(tmp_path / "six")
    done = vlfew(
        *("data", "show", "folder", "--root", root, "--image-size", 16, "--sheet", tmp_path / "a.png"),
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert "na\\xefve caf\\xe9" in done.stdout
