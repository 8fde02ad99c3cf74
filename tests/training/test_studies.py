"""Each study recipe, trained for two steps on (part of) its data or, for Omniglot, on small drawings; the sweep."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.conftest import part_of_lfw, real_data
from tests.load_script import load_script
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.batch import EncodedBatch
from vlfew.similarities import SIMILARITIES
from vlfew.workflows.assemble import read_config
from vlfew.workflows.train import train

sweep = load_script("sweep")

ROOT = Path(__file__).parents[2]
STUDIES = sorted(p for p in (ROOT / "configs/studies").glob("*.yaml") if not p.stem.endswith("_grid"))
FEW = [
    "optim.steps=2",
    "optim.warmup_steps=0",
    "model_selection=null",
    "repeat=null",
    "training.eval_every=2",
]
FOLDERS = {"att_faces": "orl_faces.zip"}
"""Data files that are not named like their source."""
GRIDS = sorted((ROOT / "configs/studies").glob("*_grid.yaml"))


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five alphabets of twenty characters by two drawers, like Omniglot but small: Koch's network is slow."""
    root, rng = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    for number in range(100):
        part = "background" if number < 80 else "evaluation"
        folder = root / f"images_{part}" / f"alphabet{number // 20}" / f"character{number % 20 + 1:02}"
        folder.mkdir(parents=True)
        for drawer in (1, 2):
            image = Image.fromarray(rng.random((15, 15)) < 0.5).resize((105, 105))
            image.save(folder / f"{number:04}_{drawer:02}.png")
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mini-ImageNet with 20 images of each class, enough for five shots and 15 queries, and 8 of each to train on."""
    root, source = tmp_path_factory.mktemp("photographs"), real_data("mini_imagenet")
    (root / "images.zip").symlink_to(source / "images.zip")
    (root / "class_names.json").symlink_to(source / "class_names.json")
    available = {Path(name).name for name in zipfile.ZipFile(source / "images.zip").namelist()}
    for part in ("train", "val", "test"):
        rows = pd.read_csv(source / f"{part}.csv")
        rows = rows[rows.filename.isin(available)].groupby("label").head(8 if part == "train" else 20)
        rows.to_csv(root / f"{part}.csv", index=False)
    return root


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of LFW's pairs."""
    root = tmp_path_factory.mktemp("faces") / "lfw"
    part_of_lfw(real_data("lfw"), root)
    return root


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_a_study_starts(path: Path, tmp_path: Path, drawings: Path, request: pytest.FixtureRequest) -> None:
    config = read_config(path)
    assert config.name == path.stem
    few = [f"evaluate.{n}.episodes=5" for n, e in enumerate(config.evaluate) if "episodes" in e.options]
    if config.data.name == "omniglot":
        few += [f"data.root={drawings}", "data.validation_alphabets=1", "sampling.pairs_per_batch=4"]
    elif config.data.name == "lfw":
        few += [f"data.root={request.getfixturevalue('faces')}"]
    elif config.data.name == "mini_imagenet":
        few += [f"data.root={request.getfixturevalue('photographs')}"]
    else:
        real_data(FOLDERS.get(config.data.name, config.data.name))
    run = train(path, [*FEW, *few], tmp_path)
    results = json.loads(run.results.read_text())
    assert [r["protocol"] for r in results] == [e.protocol for e in config.evaluate]
    assert sum("loss" in entry for entry in run.read_log()) == 1


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_every_cell_of_a_grid_can_be_configured(path: Path) -> None:
    study = path.with_name(path.name.replace("_grid", ""))
    cells = sweep.cells_of(sweep.read_grid(path), study.stem, [])
    configs = [read_config(study, cell.overrides) for cell in cells]
    for one, other in pairwise(configs):
        assert one.model_copy(update={"name": ""}) != other.model_copy(update={"name": ""})


def test_the_collapsing_mixed_loss_has_the_floor_named_in_its_recipe() -> None:
    path = ROOT / "configs/studies/mnist_mixed_collapse.yaml"
    floor = float(re.findall(r"never falls below (0\.\d+)", path.read_text())[0])
    terms = {term.loss: term.options for term in read_config(path).objective}
    assert list(terms) == ["contrastive", "l_softmax", "focal"]
    focal, similarity = LOSSES.get("focal")(**terms["focal"]), SIMILARITIES.get("cosine")(FeatureSpec(2))

    def loss(angles: list[float]) -> float:
        """Focal loss of four 2D embeddings from two classes, at these angles."""
        radians = torch.tensor(angles) * math.pi / 180
        x = torch.stack([radians.cos(), radians.sin()], dim=1)
        batch = EncodedBatch(Features(x), torch.tensor([0, 0, 1, 1]), similarity=similarity)
        assert (focal.logits(batch) < 1e-6).all()  # predicts "different" for all pairs
        return float(focal(batch))

    assert floor <= loss([0, 0, 180, 180]) < floor + 1e-4
    assert min(loss([0, turn, 180 - turn, 180 + turn]) for turn in range(10, 181, 10)) > floor + 1e-4


SMALL = """
data: {name: folder, root: IMAGES, image_size: 16, channels: 1}
image: {backbone: conv4, width: 4}
text: {encoder: null}
objective: [{loss: contrastive}]
sampling: {classes_per_batch: 4, images_per_class: 2}
optim: {steps: 2, warmup_steps: 0}
training: {eval_every: 1, save_every: 2}
model_selection: {protocol: few-shot, split: val, ways: 2, queries: 1, episodes: 5}
evaluate: [{protocol: few-shot, ways: 2, queries: 1, episodes: 5}]
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Arguments of the sweep: a configuration, a grid that each test writes, and the folder of runs."""
    images = tmp_path / "images"
    for number in range(80):
        path = images / f"{number // 4:02d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(256, (16, 16), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(path)
    (tmp_path / "small.yaml").write_text(SMALL.replace("IMAGES", str(images)))
    return [str(tmp_path / "small.yaml"), str(tmp_path / "grid.yaml"), "--runs", str(tmp_path)]


def test_a_sweep_fills_its_grid_and_continues_after_a_failed_cell(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second backbone needs larger images; the second evaluation is another one."""
    Path(arguments[1]).write_text(
        "net: {plain: [], too deep: ['image.widths=[4, 4, 4, 4, 4]']}\n"
        "evaluation:\n  one: []\n"
        "  more: ['evaluate=[{protocol: few-shot, ways: 3, queries: 1, episodes: 5}]']\n"
    )
    assert sweep.main(arguments) == 2
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "| net | evaluation | best validation | few-shot 2-way 1-shot | few-shot 3-way 1-shot |"
        and len(lines) == 8
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    log = [json.loads(line) for line in (tmp_path / "small/plain-one/log.jsonl").read_text().splitlines()]
    best = max(entry["validation"]["accuracy"] for entry in log if "validation" in entry)
    assert rows[0][:3] == ["plain", "one", f"{100 * best:.2f}"]
    assert "±" in rows[0][3] and rows[0][4] == "-" and rows[1][3] == "-" and "±" in rows[1][4]
    assert all(row[2].startswith("failed: conv4 needs images of at least 32 x 32") for row in rows[2:])
    assert "Choose a cell by its validation" in lines[7]
    assert sweep.main(arguments) == 2
    again = capsys.readouterr()
    assert again.out.splitlines() == lines and again.err.count("is finished") == 2


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("loss: [a, b]", "expected axis: {value: [key=value, ...], ...}"),
        (
            "net: {a b: [], a_b: [seed=1]}",
            "the cells 'a b' and 'a_b' would share the run folder small/a_b; rename",
        ),
        ("net: {a: [], b: [optim.lrr=1]}", "unknown key 'optim.lrr'"),
    ],
)
def test_an_invalid_grid_is_rejected_before_training(
    arguments: list[str], tmp_path: Path, grid: str, message: str
) -> None:
    Path(arguments[1]).write_text(grid + "\n")
    with pytest.raises(ConfigError) as error:
        sweep.main(arguments)
    assert message in str(error.value) and len(error.value.problems) == 1
    assert not (tmp_path / "small").exists()


def test_a_sweep_in_several_processes_is_rejected_with_status_2(arguments: list[str]) -> None:
    Path(arguments[1]).write_text("seed: {'0': []}\n")
    command = [sys.executable, str(ROOT / "scripts/sweep.py"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"WORLD_SIZE": "2"}
    )
    assert done.returncode == 2
    assert done.stderr == "sweep: a sweep runs in one process, and 2 were started; leave the launcher out\n"
