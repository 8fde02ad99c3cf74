"""The parts of `scripts/gpu_check.py` that need no GPU."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.load_script import load_script
from vlfew.encoders import TEXT_ENCODERS
from vlfew.encoders.text import base


def test_collected_texts_take_the_place_of_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, vectors = load_script("gpu_check"), torch.randn(3, 384)
    texts = ["a cat", "a dog", "a mug"]
    monkeypatch.setattr(check, "TEXTS", tmp_path / "texts.json")
    monkeypatch.setattr(check, "VECTORS", tmp_path / "texts.safetensors")
    check.TEXTS.write_text(json.dumps(texts))
    save_file({"vectors": vectors}, check.VECTORS)
    monkeypatch.setitem(TEXT_ENCODERS.entries, "minilm", "")
    monkeypatch.setitem(base._SAVED.entries, "cached_text", "")
    monkeypatch.syspath_prepend(str(Path(check.__file__).parent))
    check.use_collected_texts()
    encoder = TEXT_ENCODERS.get("minilm")()
    assert torch.equal(encoder.encode(["a mug", "a cat"]), vectors[[2, 0]])
    assert encoder.token_ids(texts) == [(0,), (1,), (2,)]
    again = base.TextEncoder.from_saved(encoder.saved_config())
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.encode(texts), vectors)


def test_wheels_lose_their_tests(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("x/__init__.py", "value = 1")
        file.writestr("x/tests/test_x.py", "")
    load_script("gpu_check")._remove_tests(wheel)
    assert zipfile.ZipFile(wheel).namelist() == ["x/__init__.py"]
    assert list(tmp_path.iterdir()) == [wheel]
