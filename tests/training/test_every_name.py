"""Every backbone, preprocessing, text encoder, similarity, loss, optimizer and activation, for two steps of training.

A registered name without a case here fails `test_every_registered_name_has_a_case`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from tests.encoders.conftest import TEXT, clip_folder, no_hub  # noqa: F401
from tests.encoders.towers import save
from vlfew.core.config import OptimConfig
from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS
from vlfew.encoders.activations import Activation
from vlfew.losses import LOSSES
from vlfew.similarities import SIMILARITIES
from vlfew.workflows.train import train

CONFIG = """
data: {{name: folder, root: {root}, image_size: 32, channels: 3}}
image: {{backbone: conv4, width: 8}}
text: {{encoder: null}}
embedding_dim: 16
objective: [{{loss: supervised_contrastive}}]
sampling: {{classes_per_batch: 4, images_per_class: 4}}
optim: {{lr: 0.01, steps: 2, warmup_steps: 0}}
training: {{mixed_precision: 'no', eval_every: 2, log_every: 1}}
model_selection: null
evaluate:
  - {{protocol: few-shot, ways: 3, shots: 1, queries: 3, episodes: 5}}
"""
EPISODES = "sampling={episodes_per_batch: 2, ways: 2}"
MAPS = ["embedding_dim=null"]
FOR_MAPS = [*MAPS, "similarity=cross_attention"]
WITH_TEXT = ["text={encoder: 'hf:{bert}'}"]

CASES: dict[str, dict[str, list[str]]] = {
    "backbone": {
        "koch": ["image={backbone: koch}", "data.image_size=65", "embedding_dim=null"],
        "lenet": ["image={backbone: lenet}"],
        "lrn": ["image={backbone: lrn}", "embedding_dim=null"],
        "embed2d": ["image={backbone: embed2d}", "embedding_dim=null"],
        "conv4": [],
        "resnet12": ["image={backbone: resnet12, widths: [4, 4, 8, 8]}"],
        "dlib_face_resnet": [
            "image={backbone: dlib_face_resnet, unfreeze_last: 1, frozen: true}",
            "data.image_size=103",
        ],
        "efficientnet_lite0": ["image={backbone: efficientnet_lite0}"],
        "efficientnet_lite1": ["image={backbone: efficientnet_lite1, frozen: true}"],
        "efficientnet_lite2": ["image={backbone: efficientnet_lite2, unfreeze_last: 1, frozen: true}"],
        "timm:": ["image={backbone: 'timm:resnet10t'}"],
        "torchvision:": ["image={backbone: 'torchvision:mobilenet_v3_small'}"],
        "open_clip:": ["image={backbone: 'open_clip:{clip}'}"],
        "transformers:": ["image={backbone: 'transformers:{vit}'}"],
    },
    "preprocessing": {
        "wavelet": ["image.preprocessing={name: wavelet}"],
        "pca": ["image.preprocessing={name: pca, components: 8}"],
    },
    "text encoder": {
        "minilm": ["text={encoder: minilm}", "objective=[{loss: alignment_softmax}]"],
        "hf:": [*WITH_TEXT, "objective=[{loss: alignment_softmax}]"],
        "open_clip:": ["text={encoder: 'open_clip:{clip}'}", "objective=[{loss: alignment_softmax}]"],
    },
    "similarity": {
        "cosine": ["similarity=cosine"],
        "euclidean": ["similarity=euclidean"],
        "weighted_l1": ["similarity=weighted_l1", "objective=[{loss: binary_cross_entropy}]"],
        "cross_attention": [*FOR_MAPS, "objective=[{loss: cross_attention, ways: 2}]"],
    },
    "loss": {
        "contrastive": ["sampling={pairs_per_batch: 8}"],
        "weighted_contrastive": ["sampling={pairs_per_batch: 8}"],
        "triplet": [],
        "binary_cross_entropy": ["similarity=weighted_l1"],
        "focal": [EPISODES],
        "supervised_contrastive": [],
        "prototypical": [],
        "cross_entropy": [],
        "adaptive_cross_entropy": [],
        "l_softmax": [],
        "sphereface": [],
        "cosface": [],
        "arcface": [],
        "cross_attention": [*FOR_MAPS, "objective=[{loss: cross_attention, ways: 2}]"],
        "cross_attention_classes": [*FOR_MAPS, "objective=[{loss: cross_attention_classes, ways: 2}]"],
        "map_cross_entropy": MAPS,
        "alignment_softmax": WITH_TEXT,
        "alignment_sigmoid": WITH_TEXT,
        "alignment_distillation": WITH_TEXT,
    },
    "optimizer": {
        name: [f"optim.name={name}"] for name in get_args(OptimConfig.model_fields["name"].annotation)
    },
    "activation": {name: [f"image.activation={name}"] for name in get_args(Activation)},
}
NAMES = {
    "backbone": BACKBONES.names(),
    "preprocessing": PREPROCESSING.names(),
    "text encoder": TEXT_ENCODERS.names(),
    "similarity": SIMILARITIES.names(),
    "loss": LOSSES.names(),
}


@pytest.fixture(scope="module")
def named_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and three test classes with five images each, named in the vocabulary of the tiny text encoder."""
    root, rng = tmp_path_factory.mktemp("named_images"), np.random.default_rng(0)
    names = [f"{adjective} {noun}" for adjective in ("small", "green", "letter") for noun in TEXT[2:6]]
    for number, name in enumerate(names[:9]):
        folder = root / ("train" if number < 6 else "test") / name
        folder.mkdir(parents=True)
        pattern = rng.integers(0, 200, (32, 32, 3))
        for image in range(5):
            noisy = (pattern + rng.integers(0, 56, pattern.shape)).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{image}.png")
    return root


@pytest.fixture(scope="module")
def towers(bert_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:  # noqa: F811
    """Folders of tiny pretrained models."""
    vit = tmp_path_factory.mktemp("vit")
    save("ViT", vit)
    return {"bert": bert_folder, "clip": clip_folder, "vit": vit}


@pytest.mark.parametrize("kind", NAMES)
def test_every_registered_name_has_a_case(kind: str) -> None:
    assert set(CASES[kind]) == set(NAMES[kind])


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in CASES.items() for name in names], ids=str
)
def test_a_component_trains(
    kind: str, name: str, named_images: Path, towers: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "named.yaml"
    path.write_text(CONFIG.format(root=named_images))
    overrides = list(CASES[kind][name])
    for tower, folder in towers.items():
        overrides = [o.replace(f"{{{tower}}}", str(folder)) for o in overrides]
    if kind == "loss":
        overrides.insert(0, f"objective=[{{loss: {name}}}]")
    run = train(path, overrides, tmp_path)
    losses = [entry["loss"] for entry in run.read_log() if "loss" in entry]
    assert len(losses) == 2 and all(torch.tensor(losses).isfinite())
    (result,) = json.loads(run.results.read_text())
    assert 0 <= result["accuracy"] <= 1
