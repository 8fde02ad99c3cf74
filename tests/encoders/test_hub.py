from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vlfew.core.errors import ModelError
from vlfew.encoders.hub import cached_folder, hub_folder


def put(cache: Path, repo: str, name: str) -> Path:
    """A file of a repository in the layout of the hub's cache; returns its folder."""
    root = cache / f"models--{repo.replace('/', '--')}"
    folder = root / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text("0" * 40, "utf-8")
    (folder / name).write_bytes(b"weights")
    return folder


def test_the_cache_is_enough(no_hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(no_hub, "someone/model", "model.safetensors")
    assert cached_folder("someone/model", ["model.safetensors"]) == folder
    assert hub_folder("someone/model", ["model*.safetensors", "*.bin"], who="test") == folder
    assert capsys.readouterr().err == ""


def test_a_cached_repository_without_its_weights_is_not_enough(no_hub: Path) -> None:
    put(no_hub, "someone/model", "config.json")
    assert cached_folder("someone/model", ["model.safetensors"]) is None
    with pytest.raises(ModelError, match=r"test: model\.safetensors \(about 7 MB\) of someone/model"):
        hub_folder("someone/model", ["model.safetensors"], who="test", size="about 7 MB")


def test_a_download_prints_what_from_where_and_how_large(
    no_hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"config.json": 1_000_000, "model.safetensors": 90_000_000, "pytorch_model.bin": 90_000_000}
    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    requested: list[list[str]] = []

    def download(repo: str, local_files_only: bool = False, allow_patterns: list[str] | None = None) -> str:
        if local_files_only:
            raise FileNotFoundError
        assert allow_patterns is not None
        requested.append(allow_patterns)
        return str(put(no_hub, repo, "model.safetensors"))

    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: SimpleNamespace(siblings=siblings))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    folder = hub_folder("someone/model", ["model*.safetensors", "*.bin"], ["*.json"], who="test")
    assert (folder / "model.safetensors").is_file()
    assert requested == [["model*.safetensors", "*.json"]]
    printed = capsys.readouterr().err
    assert "someone/model (91 MB) from https://" in printed and str(no_hub) in printed

    with pytest.raises(ModelError, match=r"holds none of \*\.npz") as caught:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        hub_folder("someone/model", ["*.npz"], who="test")
    assert "\n" not in str(caught.value)
