"""Models of transformers with random weights: vlfew's towers are transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.check_model.transformers_models import CONFIGS, IMAGE_MODELS, save, save_image_model
from vlfew.workflows.check_model.workflow import check_model

SLOW = {"ChineseCLIP", "CLIPSeg", "MetaClip2", "OwlViT", "Blip"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in CONFIGS]
)
def test_image_text_models(kind: str, tmp_path: Path, bert_folder: Path) -> None:
    save(kind, tmp_path, bert_folder)
    checked = check_model(f"transformers:{tmp_path}")
    assert [c.what for c in checked.checks] == [
        "preprocessed pixels",
        "image embeddings",
        "tokens",
        "text embeddings",
        "similarities",
    ]
    failed = [c for c in checked.checks if not c.passed]
    assert not failed, failed


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_image_models(kind: str, tmp_path: Path) -> None:
    save_image_model(kind, tmp_path)
    checked = check_model(f"transformers:{tmp_path}")
    assert checked.checks[0].what == "preprocessed pixels" and len(checked.checks) == 2
    failed = [c for c in checked.checks if not c.passed]
    assert not failed, failed
