"""Training on cached outputs of a frozen backbone: the numbers are those without, and images are encoded once."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.compare import relative_difference
from vlfew.core.config import AugmentConfig
from vlfew.core.errors import ConfigError
from vlfew.core.random import generator_at, seed_at
from vlfew.data.augmentation import BatchAugment
from vlfew.models.backbone_cache import BackboneCache, View
from vlfew.models.dual_stream import DualStream
from vlfew.training.cached_views import CachedViews
from vlfew.workflows.assemble import Assembly, assemble, read_config
from vlfew.workflows.train import train

FROZEN = ["image.frozen=true", "optim.steps=6", "training.eval_every=3", "optim.warmup_steps=1"]
PLAIN = ["augment.rotate=0", "augment.translate=0"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vlfew" / "backbones"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of a backbone encodes."""
    counts: list[int] = []
    output = DualStream.backbone_output

    def counted(model: DualStream, pixels: Tensor) -> Any:
        counts.append(len(pixels))
        return output(model, pixels)

    monkeypatch.setattr(DualStream, "backbone_output", counted)
    return counts


def assembled(config: Path, *overrides: str) -> Assembly:
    return assemble(read_config(config, [*FROZEN, *overrides]))


def weights_and_losses(run: Path) -> tuple[dict[str, Tensor], list[float]]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return load_file(run / "model.safetensors"), [e["loss"] for e in entries if "loss" in e]


@pytest.mark.parametrize("objective", ["supervised_contrastive", "cross_attention"])
def test_the_training_is_that_without_the_cache(config: Path, tmp_path: Path, objective: str) -> None:
    own = ["training.log_every=1"]
    if objective == "cross_attention":
        own += [
            "similarity=cross_attention",
            "embedding_dim=null",
            "objective=[{loss: cross_attention, ways: 2}]",
        ]
    found = []
    for name, more in (("uncached", []), ("cached", ["training.cache_views=1"])):
        run = train(config, [*FROZEN, *PLAIN, *own, *more, f"name={name}"], tmp_path / "runs").path
        found.append(weights_and_losses(run))
    (weights, losses), (cached_weights, cached_losses) = found
    # Maps are kept in half precision.
    tolerance = 2e-3 if objective == "cross_attention" else 1e-4
    assert cached_losses == pytest.approx(losses, rel=tolerance)
    for key, value in weights.items():
        assert relative_difference(cached_weights[key].double(), value.double()) < tolerance, key


@pytest.mark.parametrize("views", [1, 3])
def test_a_batch_has_the_views_that_augmentation_makes(config: Path, views: int) -> None:
    parts = assembled(config, f"training.cache_views={views}")
    model, data = parts.model.eval(), parts.data
    settings, seed = AugmentConfig(rotate=10, translate=0.1), 0
    index = data.indices("train").tolist()
    fixed = BatchAugment(settings, seed_at(seed, "views"))
    chosen = set()
    for batch in parts.loader.batches(0, 4):
        (expected, numbers) = [], parts.loader.dataset.sampler.batch(batch.number).index.tolist()
        drawn = generator_at(seed, "view", batch.number).integers(views, size=len(numbers))
        for image, view in zip(numbers, drawn.tolist(), strict=True):
            chosen.add(view)
            one = data.images.batch(torch.tensor([image]))
            # One image of the list at a time.
            pixels = fixed(one, view, len(index), index.index(image))
            with torch.no_grad():
                expected.append(model.backbone_output(pixels).embedding)
        got = batch.pixels()
        assert relative_difference(got.embedding, torch.cat(expected)) < 1e-5
    assert chosen == set(range(views))


def test_every_image_is_encoded_once(config: Path, tmp_path: Path, encoded: list[int]) -> None:
    arguments = [*FROZEN, "training.cache_views=2"]
    train(config, [*arguments, "name=a"], tmp_path / "runs")
    assert sum(encoded) == 2 * 48 + 24 + 24  # two views for training; validation and test images
    encoded.clear()
    train(config, [*arguments, "name=b", "optim.lr=0.1"], tmp_path / "runs")
    train(config, [*arguments, "name=c", "embedding_dim=8"], tmp_path / "runs")
    assert not encoded
    train(config, [*arguments, "name=d", "training.cache_views=3"], tmp_path / "runs")
    assert sum(encoded) == 48
    for change in ("augment.rotate=20", "seed=1", "image.width=4", "data.image_size=20"):
        encoded.clear()
        assembled(config, "training.cache_views=1", change)
        assert sum(encoded) == 48, change


def test_an_interrupted_encoding_goes_on(
    config: Path, encoded: list[int], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlfew.models.backbone_cache.SHARD", 20)
    parts = assembled(config)
    model, data, index = parts.model, parts.data, parts.data.indices("train")
    view = View(BatchAugment(AugmentConfig(rotate=10), 0), 0)
    save, saved = BackboneCache._kept, list[str]()

    def interrupted(cache: BackboneCache, features: Any, file: Any) -> Any:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append("")
        return save(cache, features, file)

    monkeypatch.setattr(BackboneCache, "_kept", interrupted)
    with pytest.raises(KeyboardInterrupt):
        BackboneCache().encode(model, data, index, "train", view)
    monkeypatch.setattr(BackboneCache, "_kept", save)
    encoded.clear()
    found = BackboneCache().encode(model, data, index, "train", view)
    assert sum(encoded) == 8 and [len(shard) for shard in found.shards] == [20, 20, 8]
    rows = torch.tensor([47, 3, 20, 3, 39])
    with torch.no_grad():
        whole = model.backbone_output(view.augment(data.images.batch(index), 0, 48, 0)).embedding
    assert relative_difference(found[rows].embedding, whole[rows]) < 1e-5
    # A damaged file is replaced.
    for file in own_cache.iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    encoded.clear()
    again = BackboneCache().encode(model, data, index, "train", view)
    assert sum(encoded) == 48 and relative_difference(again[rows].embedding, whole[rows]) < 1e-5


def test_processes_share_the_encoding(
    config: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlfew.models.backbone_cache.SHARD", 20)
    parts = assembled(config)
    model, data, index = parts.model, parts.data, parts.data.indices("train")

    def other_process() -> None:
        BackboneCache(rank=1, world_size=2).encode(model, data, index, "train")

    encoded.clear()
    found = BackboneCache(rank=0, world_size=2, wait=other_process).encode(model, data, index, "train")
    assert len(found) == 48 and sum(encoded) == 48


def test_without_a_place_for_files_outputs_are_kept_in_memory(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    parts = assembled(config, "training.cache_views=1")
    assert len(next(parts.loader.batches(0, 1)).images) == 16
    assert "outputs of the frozen backbone are not cached" in capsys.readouterr().err


def test_no_space_is_told_before_the_first_image(
    config: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 0, 10_000))
    with pytest.raises(
        ConfigError, match=r"cache_views=100 keeps embeddings of 48 images: 0\.00123 GB.* 1e-05 GB free"
    ):
        assembled(config, "training.cache_views=100", "image.width=64")
    assert not encoded


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["image.frozen=false"], "this one is trained; set image.frozen=true"),
        (["image.unfreeze_last=1"], "this one is trained"),
        (["image.share_weights=false", "objective=[{loss: contrastive}]"], "takes one backbone"),
    ],
)
def test_what_cannot_be_cached(config: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assembled(config, "training.cache_views=1", *overrides)


def test_nothing_augmented_is_one_view(config: Path) -> None:
    parts = assembled(config, *PLAIN, "training.cache_views=5")
    assert parts.loader.views is not None and parts.loader.views.count == 1
    assert isinstance(parts.loader.views, CachedViews)
