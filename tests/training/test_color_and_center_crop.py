"""mini-ImageNet by its own configuration: in color or gray, with or without a center crop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlfew.models import load
from vlfew.workflows.assemble import load_data_of, read_config
from vlfew.workflows.train import train

CONFIG = Path(__file__).parents[2] / "configs" / "mini_imagenet.yaml"
SHORT = [
    "optim.steps=1",
    "optim.warmup_steps=0",
    "image.width=4",
    "text.encoder=null",
    "sampling={classes_per_batch: 2, images_per_class: 2}",
    "model_selection={protocol: few-shot, ways: 2, queries: 1, episodes: 5}",
    "evaluate=[{protocol: few-shot, ways: 2, queries: 1, episodes: 5}]",
]


@pytest.fixture(scope="module")
def mini_imagenet(tmp_path_factory) -> Path:
    """Two classes a split: a dark reddish subject in a white frame."""
    root, rng = tmp_path_factory.mktemp("mini_imagenet"), np.random.default_rng(0)
    (root / "images").mkdir()
    for number, split in enumerate(("train", "val", "test")):
        lines = ["filename,label"]
        for wnid in (f"n0000000{2 * number}", f"n0000000{2 * number + 1}"):
            for image in range(3):
                pixels = np.full((100, 100, 3), 255, np.uint8)
                pixels[10:90, 10:90] = rng.integers([60, 0, 0], [120, 60, 60], (80, 80, 3))
                name = f"{wnid}{image:08d}.jpg"
                Image.fromarray(pixels).save(root / "images" / name, quality=95)
                lines.append(f"{name},{wnid}")
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(
    ("overrides", "channels", "framed"),
    [([], 3, True), (["data.channels=1"], 1, True), (["data.center_crop=0.7"], 3, False)],
    ids=["default", "gray", "center_crop"],
)
def test_trains_a_step_and_evaluates(overrides, channels, framed, mini_imagenet, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    overrides = [*SHORT, f"data.root={mini_imagenet}", "data.texts=names", *overrides]
    run = train(CONFIG, overrides, tmp_path)
    (result,) = json.loads(run.results.read_text())
    assert result["input_size"] == [channels, 84, 84]
    config = read_config(CONFIG, overrides)
    spec = load(run.path).spec
    assert (
        spec.preprocessor().channels == channels
        and spec.preprocessor().center_crop == config.data.center_crop
    )
    data = load_data_of(config)
    pixels = data.images.batch(torch.arange(len(data.images))).float()
    assert pixels.shape[1] == channels
    assert (pixels[..., 0, :].mean().item() > 200) == framed
    if channels == 3:
        assert (pixels[:, 0] - pixels[:, 2])[..., 30:50, 30:50].mean() > 30
