"""A folder of tiny images and a configuration that trains on it in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.encoders.conftest import bert_folder  # noqa: F401

CONFIG = """
data: {{name: folder, root: {root}, image_size: 16, channels: 1}}
image: {{backbone: conv4, width: 8, norm: group}}
text: {{encoder: null}}
embedding_dim: 16
objective: [{{loss: supervised_contrastive}}]
sampling: {{classes_per_batch: 4, images_per_class: 4}}
augment: {{rotate: 10, translate: 0.1}}
optim: {{lr: 0.01, steps: 30, warmup_steps: 5}}
training: {{mixed_precision: 'no', eval_every: 10, save_every: 10, log_every: 5}}
model_selection: {{protocol: few-shot, split: val, ways: 3, queries: 3, episodes: 50}}
evaluate:
  - {{protocol: few-shot, ways: 3, shots: 1, queries: 3, episodes: 100}}
"""


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/val/test folders of classes: random patterns with noise."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, classes in (("train", 8), ("val", 4), ("test", 4)):
        for c in range(classes):
            pattern = rng.integers(0, 200, (16, 16))
            for number in range(6):
                path = root / split / f"{split}{c:02d}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((pattern + rng.integers(0, 56, (16, 16))).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(root=images))
    return path


# Many short processes: bytecode is cached even where the environment disables it.
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}


def command(*arguments: object) -> list[str]:
    """`vlfew ...` as a process of its own."""
    return [sys.executable, "-m", "vlfew.cli", *map(str, arguments)]


def vlfew(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs `vlfew ...` to its end."""
    options = {"env": ENVIRONMENT, "timeout": 300} | options
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command(*arguments), capture_output=True, text=True, **options
    )
