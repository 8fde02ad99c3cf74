"""The feature cache: used for the same model and images, never for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import make_data
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation import feature_cache
from vlfew.evaluation.feature_bank import FeatureBank, encode_split
from vlfew.evaluation.feature_cache import cache_file, cached_split_features
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import fingerprint_of
from vlfew.models.spec import ModelSpec


@pytest.fixture(scope="module")
def model() -> DualStream:
    torch.manual_seed(0)
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    return DualStream.from_spec(spec).eval()


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Splits that were encoded; the cache is an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoded: list[str] = []

    def count(model: DualStream, data: LabeledImages, split: str) -> FeatureBank:
        encoded.append(split)
        return encode_split(model, data, split)

    monkeypatch.setattr(feature_cache, "encode_split", count)
    return encoded


def test_a_cached_split_is_not_encoded_again(model: DualStream, counted: list[str]) -> None:
    data = make_data()
    first, second = cached_split_features(model, data, "test"), cached_split_features(model, data, "test")
    assert counted == ["test"]
    assert second.features.embedding.equal(first.features.embedding)
    assert second.index.equal(first.index) and second.labels.equal(first.labels)
    cached_split_features(model, data, "val")
    assert counted == ["test", "val"]


def test_changed_images_or_labels_are_encoded_again(model: DualStream, counted: list[str]) -> None:
    """Although name and fingerprint of the data are the same, as of a data set that knows no better."""
    data = make_data(classes=30, images=20)
    cached_split_features(model, data, "test")
    pixels = data.images.batch(torch.arange(len(data.labels)))
    one = data.indices("test")[7]
    pixels[one] = 255 - pixels[one]
    changed = replace(data, images=InMemory(pixels))
    again = cached_split_features(model, changed, "test")
    assert again.features.embedding.equal(encode_split(model, changed, "test").features.embedding)
    labels = data.labels.clone()
    labels[one] = data.labels[data.indices("test")[-1]]
    relabeled = cached_split_features(model, replace(changed, labels=labels), "test")
    assert relabeled.labels.equal(labels[data.indices("test")]) and counted == ["test"] * 3


def test_a_damaged_file_is_replaced(model: DualStream, counted: list[str]) -> None:
    data = make_data()
    good = cached_split_features(model, data, "test").features.embedding
    path = cache_file(model, data, "test")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert cached_split_features(model, data, "test").features.embedding.equal(good)
    assert cached_split_features(model, data, "test").features.embedding.equal(good)
    assert counted == ["test", "test"]


def test_a_cache_that_is_not_writable(
    model: DualStream, counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(cached_split_features(model, make_data(), "test")) == len(make_data().indices("test"))


def test_other_weights_images_or_crops_have_their_own_files(model: DualStream) -> None:
    data = make_data()
    cropped = replace(data, images=InMemory(data.images.batch(torch.arange(len(data.labels))).flip(3)))
    files = [
        cache_file(model, data, "test"),
        cache_file(model, data, "val"),
        cache_file(model, cropped, "test"),
    ]
    files.append(cache_file(model, replace(data, fingerprint="other"), "test"))
    before, weight = fingerprint_of(model), next(model.backbone.parameters())
    with torch.no_grad():
        weight.view(-1)[0] += 1e-6
        files.append(cache_file(model, data, "test"))
        weight.view(-1)[0] -= 1e-6
    assert len(set(files)) == 5
    other = DualStream.from_spec(model.spec.model_copy(update={"tta": "hflip"}))
    other.load_state_dict(model.state_dict())
    assert fingerprint_of(other) != before
