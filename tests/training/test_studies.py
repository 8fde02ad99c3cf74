"""The recipes of the studies, each started for two steps on real data, and the sweep over their grid."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import real_data
from vlfew.features import Features, Space
from vlfew.losses import LOSSES
from vlfew.losses.encoded import Encoded
from vlfew.pipeline import run_pipeline
from vlfew.scorers import SCORERS
from vlfew.training.setup import read_config

ROOT = Path(__file__).parents[2]
STUDIES = sorted(p for p in (ROOT / "configs/studies").glob("*.yaml") if not p.stem.endswith("_grid"))
FEW = ["optim.steps=2", "optim.warmup=0", "select=null", "repeat=null", "training.validate_every=2"]
FOLDERS = {"att_faces": "orl_faces.zip"}
"""Data whose file is not called as the source is."""


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_a_study_starts(path: Path, tmp_path: Path) -> None:
    config = read_config(path)
    assert config.name == path.stem
    real_data(FOLDERS.get(config.data.name, config.data.name))
    few = [f"evaluate.{n}.episodes=5" for n, e in enumerate(config.evaluate) if "episodes" in e.options]
    run = run_pipeline(path, [*FEW, *few], tmp_path)
    results = json.loads(run.results.read_text())
    assert [r["protocol"] for r in results] == [e.protocol for e in config.evaluate]
    assert sum("loss" in entry for entry in run.read_log()) == 1


def test_the_mixed_loss_that_collapses_has_the_floor_that_its_recipe_tells_of() -> None:
    path = ROOT / "configs/studies/mnist_mixed_collapse.yaml"
    floor = float(re.findall(r"never falls below (0\.\d+)", path.read_text())[0])
    terms = {term.loss: term.options for term in read_config(path).objective}
    assert list(terms) == ["contrastive", "l_softmax", "focal"]
    focal, similarity = LOSSES.get("focal")(**terms["focal"]), SCORERS.get("cosine")(Space(2))

    def loss(angles: list[float]) -> float:
        """Of four pictures of two classes, in the plane."""
        radians = torch.tensor(angles) * math.pi / 180
        x = torch.stack([radians.cos(), radians.sin()], dim=1)
        batch = Encoded(Features(x), torch.tensor([0, 0, 1, 1]), similarity=similarity)
        assert (focal.logits(batch) < 1e-6).all()  # "different", of all pairs
        return float(focal(batch))

    assert floor <= loss([0, 0, 180, 180]) < floor + 1e-4
    assert min(loss([0, turn, 180 - turn, 180 + turn]) for turn in range(10, 181, 10)) > floor + 1e-4


def test_a_sweep_fills_its_grid_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    real_data("mnist")
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "loss:\n  plain: []\n  wide margin: [objective.0.margin=2]\nseed: {'0': [], '1': [seed=1]}\n"
    )
    command = [
        sys.executable,
        str(ROOT / "scripts/sweep.py"),
        str(STUDIES[-1].with_name("mnist_contrastive.yaml")),
    ]
    command += [str(grid), *FEW, "evaluate.0.episodes=5", "--runs", str(tmp_path)]
    first, again = (subprocess.run(command, capture_output=True, text=True, timeout=300) for _ in range(2))
    assert first.returncode == 0, first.stderr[-2000:]
    assert again.stdout == first.stdout and "is finished" in again.stderr
    lines = first.stdout.strip().splitlines()
    assert lines[0].startswith("| loss | seed | few-shot 10-way 1-shot") and len(lines) == 6
    assert (tmp_path / "mnist_contrastive/wide_margin-1/results.json").is_file()


def test_a_grid_that_is_none_is_refused(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("loss: [a, b]\n")
    command = [sys.executable, str(ROOT / "scripts/sweep.py"), str(STUDIES[0]), str(grid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "expected axis: {value: [key=value, ...], ...}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
