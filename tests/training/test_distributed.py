"""One process against two (gloo): the same gradients, the same figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import ENVIRONMENT, vlfew

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "objective",
    [
        "alignment_softmax",
        "alignment_sigmoid,supervised_contrastive",
        "alignment_softmax,triplet,weighted_contrastive,adaptive_cross_entropy",
    ],
)
def test_gradients_are_those_of_one_process(objective, tmp_path):
    """The losses agree even with wrong gathering: only the gradients tell."""
    script = str(Path(__file__).with_name("gradients.py"))
    run([sys.executable, script, objective, str(tmp_path / "one")])
    run([*TORCHRUN, script, objective, str(tmp_path / "two")])
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys() and len(one) > 10
    assert max(g.abs().max() for n, g in one.items() if n != "loss") > 1e-3
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6, msg=name)


STAGES = [
    "similarity=weighted_l1",
    "objective=[{loss: contrastive, stop: 0.5}, {loss: binary_cross_entropy, start: 0.5}, "
    "{loss: map_cross_entropy, start: 0.5}]",
]
"""Weights that go without a gradient in each half of the training."""


@pytest.mark.parametrize(
    "overrides",
    [["optim.steps=20"], ["optim.steps=8", *STAGES], ["optim.steps=8", "training.gradient_cache=3", *STAGES]],
    ids=["plain", "stages", "gradient cache"],
)
def test_figures_are_those_of_one_process(config, overrides):
    """A whole run, its augmentation and sampling included (Conv4 with GroupNorm)."""
    small = [*overrides, "optim.lr=0.001", "--runs"]
    done = vlfew("train", config, *small, config.parent / "one")
    assert done.returncode == 0, done.stderr
    run([*TORCHRUN, str(TRAIN), str(config), *small, str(config.parent / "two")])
    figures = []
    for folder in ("one", "two"):
        run_folder = config.parent / folder / "small"
        (result,) = json.loads((run_folder / "results.json").read_text())
        log = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
        losses = [entry["loss"] for entry in log if "loss" in entry]
        figures.append((result["accuracy"], losses))
    assert figures[0][0] == figures[1][0]
    assert figures[0][1] == pytest.approx(figures[1][1], rel=1e-5)
