"""Networks of timm with random weights: vlfew's are timm's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from vlfew.workflows.check_model.workflow import check_model

PIXELS: list[dict[str, Any]] = [
    {"crop_pct": 0.9, "interpolation": "bicubic"},
    {"crop_pct": 0.95, "interpolation": "bilinear", "crop_mode": "squash"},
    {"crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "border"},
    {"crop_pct": 0.875, "interpolation": "lanczos"},
]
SMALLER = {
    "cait": "cait_xxs24_224",
    "eva": "eva02_tiny_patch14_224",
    "naflexvit": "naflexvit_base_patch16_gap",
}
"""Where the shortest name is that of a large model."""
SMALL = ["test_vit", "test_convnext", "test_nfnet", "test_efficientnet"]


def families() -> dict[str, str]:
    """By each module of timm's, the name of a model of it: the one with the shortest name that is not a test's."""
    found = {}
    for module in timm.list_modules():
        names = [name for name in timm.list_models(module=module) if not name.startswith("test_")]
        if names:
            found[module] = min(names, key=lambda name: (_sounds_large(name), len(name), name))
    return found | SMALLER


def _sounds_large(name: str) -> bool:
    return any(word in name for word in ("large", "huge", "giant", "base", "xl", "_l", "_b"))


def check(name: str, pixels: dict[str, Any], folder: Path) -> None:
    torch.manual_seed(0)
    statistics = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    model = timm.create_model(name, pretrained_cfg_overlay=statistics | pixels)
    with torch.no_grad():
        for value in model.parameters():  # layers that start as zeros would hide what stands before them
            value.add_(0.02 * torch.randn_like(value))
    timm.models.save_for_hf(model, folder, model_config={})
    del model
    checked = check_model(f"timm:{folder}")
    assert [c.what for c in checked.checks] == ["preprocessed pixels", "image embeddings"]
    failed = [c for c in checked.checks if not c.passed]
    assert not failed, failed


@pytest.mark.parametrize(("name", "pixels"), zip(SMALL, PIXELS, strict=True), ids=SMALL)
def test_small_networks_by_every_rule_of_resizing(name: str, pixels: dict[str, Any], tmp_path: Path) -> None:
    check(name, pixels, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_a_network_of_every_family(family: str, tmp_path: Path) -> None:
    name = families().get(family)
    if name is None:
        pytest.skip("no model of its own")
    check(name, PIXELS[0], tmp_path)
