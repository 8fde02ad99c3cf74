"""One process against two (gloo): the same gradients, the same figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import CONFIG, ENVIRONMENT
from vlfew.workflows.train import run_pipeline

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]


OBJECTIVES = [
    "alignment_softmax",
    "alignment_sigmoid,supervised_contrastive",
    "alignment_softmax,triplet,weighted_contrastive,adaptive_cross_entropy",
]


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The gradients of all objectives, by one process and by two."""
    script = str(Path(__file__).with_name("gradients.py"))
    folder = tmp_path_factory.mktemp("gradients")
    for name, launcher in (("one", [sys.executable]), ("two", TORCHRUN)):
        (folder / name).mkdir()
        run([*launcher, script, str(folder / name), *OBJECTIVES])
    return {name: folder / name for name in ("one", "two")}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_one_process(objective: str, gradients: dict[str, Path]):
    """The losses agree even with wrong gathering: only the gradients tell."""
    one, two = (load_file(gradients[name] / objective) for name in ("one", "two"))
    assert one.keys() == two.keys() and len(one) > 10
    assert max(g.abs().max() for n, g in one.items() if n != "loss") > 1e-3
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6, msg=name)


STARTS = [0, 0.5]


@pytest.fixture(scope="module", params=["null", "3"], ids=["plain", "gradient cache"])
def both(
    tmp_path_factory: pytest.TempPathFactory, images: Path, request: pytest.FixtureRequest
) -> dict[str, Path]:
    """A run by one process and the same by two, repeated: with one stage, and with two.

    In the first of two stages the weights of the scorer go without a gradient.
    """
    folder = tmp_path_factory.mktemp("both")
    (folder / "small.yaml").write_text(CONFIG.format(root=images))
    overrides = [
        "similarity=weighted_l1",
        "objective=[{loss: contrastive}, {loss: binary_cross_entropy}]",
        f"repeat={{key: objective.1.start, values: {STARTS}}}",
        "optim.steps=10",
        "optim.lr=0.001",
        f"training.gradient_cache={request.param}",
    ]
    run_pipeline(folder / "small.yaml", overrides, folder / "one")
    run([*TORCHRUN, str(TRAIN), str(folder / "small.yaml"), *overrides, "--runs", str(folder / "two")])
    return {name: folder / name / "small" for name in ("one", "two")}


@pytest.mark.parametrize("start", STARTS)
def test_figures_are_those_of_one_process(both: dict[str, Path], start: float):
    """A whole run, its augmentation and sampling included (Conv4 with GroupNorm)."""
    figures = []
    for folder in both.values():
        run_folder = folder / f"start-{start}"
        (result,) = json.loads((run_folder / "results.json").read_text())
        log = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
        losses = [entry["loss"] for entry in log if "loss" in entry]
        figures.append((result["accuracy"], losses))
    assert figures[0][0] == figures[1][0]
    assert len(figures[0][1]) == 2 and figures[0][1] == pytest.approx(figures[1][1], rel=1e-5)
