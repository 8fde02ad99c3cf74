"""Architectures of open_clip with random weights: vlfew's towers are open_clip's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.check_model.open_clip_models import save, smaller
from vlfew.workflows.check_model.workflow import check_model

PIXELS: list[dict[str, Any]] = [
    {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    {"resize_mode": "squash", "interpolation": "bilinear"},
    {"resize_mode": "longest", "fill_color": 7},
]
SMALL = [
    ("ViT-B-32", ""),
    ("ViT-B-32-quickgelu", ""),
    ("RN50", ""),
    ("ViT-M-16-alt", ""),
    ("ViT-H-14-CLIPA", ""),
    ("ViT-H-14-worldwide", ""),
    ("coca_ViT-B-32", ""),
    ("coca_base", ""),
    ("coca_roberta-ViT-B-32", ""),
    ("roberta-ViT-B-32", ""),
    ("xlm-roberta-base-ViT-B-32", ""),
    ("mt5-base-ViT-B-32", ""),
    ("nllb-clip-base", ""),
    ("convnext_base", "test_convnext"),
    ("ViT-B-16-SigLIP", "test_vit"),
    ("ViT-B-16-SigLIP2", "test_vit2"),
]
"""One of each family, with the network that stands for that of timm."""
WHOLE = [
    "convnext_base",
    "EVA02-B-16",
    "MobileCLIP2-S0",
    "MobileCLIP-S1",
    "MobileCLIP-B",
    "swin_base_patch4_window7_224",
    "nllb-clip-base-siglip",
    "vit_medium_patch16_gap_256",
    "vit_relpos_medium_patch16_cls_224",
    "PE-Core-T-16-384",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "ViT-B-16-SigLIP-i18n-256",
    "ViTamin-S",
]
"""One of each family with a network of timm, at its published size."""


def check(config: dict[str, Any], pixels: dict[str, Any], folder: Path, bert_folder: Path) -> None:
    save(config, pixels, folder, bert_folder)
    checked = check_model(f"open_clip:{folder}")
    failed = [c for c in checked.checks if not c.passed]
    assert not failed, failed
    assert [c.what for c in checked.checks] == [
        "preprocessed pixels",
        "image embeddings",
        "tokens",
        "text embeddings",
        "similarities",
    ]


@pytest.mark.parametrize(("name", "timm_model"), SMALL, ids=[name for name, _ in SMALL])
def test_a_small_model_of_every_family(name: str, timm_model: str, tmp_path: Path, bert_folder: Path) -> None:
    pixels = PIXELS[[n for n, _ in SMALL].index(name) % len(PIXELS)]
    check(smaller(name, timm_model), pixels, tmp_path, bert_folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_networks_of_timm_at_their_published_size(name: str, tmp_path: Path, bert_folder: Path) -> None:
    check(smaller(name), PIXELS[0], tmp_path, bert_folder)
