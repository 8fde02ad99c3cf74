"""timm's models: their patch tokens as maps, and folders of them with their own preprocessing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import vlfew
from tests.compare import assert_close
from vlfew.core.errors import ConfigError, ModelError
from vlfew.encoders import BACKBONES, PRETRAINED_MODELS
from vlfew.models import DualStream, ModelSpec
from vlfew.models.serialization import save_model

PIXELS = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "input_size": (3, 48, 48)}
FRAME = {"crop_pct": 0.75, "interpolation": "bilinear", "fixed_input_size": True}


def save(folder: Path) -> Any:
    """A tiny ViT as timm saves it for the hub."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=48, pretrained_cfg_overlay={**PIXELS, **FRAME})
    timm.models.save_for_hf(model, folder, model_config={}, model_args={"img_size": 48})
    return model.eval()


def test_the_map_of_a_vit_is_its_patch_tokens() -> None:
    torch.manual_seed(0)
    backbone = BACKBONES.get("timm:test_vit")(3, 64).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = backbone.model.forward_features(x)
        maps = backbone(x).map
    side = backbone.model.patch_embed.grid_size[0]
    assert maps.shape == (2, backbone.dim, side, side)
    first = tokens.shape[1] - side * side
    for row in range(side):
        for column in range(side):
            assert torch.equal(maps[:, :, row, column], tokens[:, first + row * side + column])


def test_the_center_of_the_map_is_averaged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES.get("timm:test_efficientnet")(3, 224, pool_center=0.7).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        features = backbone(images)
    assert features.map.shape == (2, backbone.dim, 7, 7)
    for image, embedding in zip(features.map, features.embedding, strict=True):
        center = [image[:, row, column] for row in range(1, 6) for column in range(1, 6)]
        assert_close(embedding, sum(center) / 25)
    whole = BACKBONES.get("timm:test_efficientnet")(3, 224).eval()
    whole.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        assert not torch.allclose(whole(images).embedding, features.embedding)
    options = {"pool_center": 0.7}
    spec = ModelSpec(
        backbone="timm:test_efficientnet",
        backbone_options=options,
        channels=3,
        image_size=224,
        embedding_dim=None,
    )
    model = DualStream.from_spec(spec).eval()
    save_model(model, tmp_path)
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    assert_close(vlfew.load(tmp_path).encode_image(images), model.encode_image(images))
    with pytest.raises(ModelError, match="pool_center is not supported by this network"):
        BACKBONES.get("timm:test_vit")(3, 64, pool_center=0.7)
    for fraction in (2.0, 0.0, float("nan")):
        with pytest.raises(ConfigError, match=r"pool_center is .*; it must be above 0"):
            BACKBONES.get("timm:test_efficientnet")(3, 64, pool_center=fraction)


@pytest.mark.parametrize("name", ["test_convnext", "mobilenetv3_small_050", "regnetx_002"])
def test_networks_with_layers_behind_the_average(name: str) -> None:
    """What follows the average takes the center in its place."""
    torch.manual_seed(0)
    backbone, whole = (
        BACKBONES.get(f"timm:{name}")(3, 160, pool_center=0.5),
        BACKBONES.get(f"timm:{name}")(3, 160),
    )
    whole.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        images = torch.randn(2, 3, 160, 160)
        features, plain = backbone.eval()(images), whole.eval()(images)
    assert features.embedding.shape == plain.embedding.shape
    assert_close(features.map, plain.map)
    assert not torch.allclose(features.embedding, plain.embedding)


def test_a_nfnet_gives_a_map_and_each_image_its_own_features() -> None:
    torch.manual_seed(0)
    backbone = BACKBONES.get("timm:test_nfnet")(3, 64).train()
    x = torch.randn(3, 3, 64, 64)
    features = backbone(x)
    assert features.map.shape[:2] == (3, backbone.model.num_features)
    assert_close(backbone(x[:1]).embedding, features.embedding[:1])


def test_a_folder_and_the_model_saved_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    vit = save(folder)
    model = vlfew.load(f"timm:{folder}")
    spec = model.spec
    assert spec.resize_first is not None and spec.center_crop == 1
    assert (spec.image_size, spec.resize, spec.resize_first.size, spec.interpolation) == (
        48,
        "crop",
        64,
        "bilinear",
    )
    assert spec.outside_data and not model.has_text
    assert model.backbone.pixel_mean == PIXELS["mean"]
    x = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    pixels = (x / 255 - torch.tensor(PIXELS["mean"]).view(-1, 1, 1)) / torch.tensor(PIXELS["std"]).view(
        -1, 1, 1
    )
    with torch.no_grad():
        expected = vit.forward_head(vit.forward_features(pixels), pre_logits=True)
    assert_close(model.encode_image(x), expected)
    gray = BACKBONES.get(f"timm:{folder}")(1, 32)
    assert gray(torch.zeros(1, 1, 32, 32)).embedding.shape == (1, gray.dim)
    vlfew.models.save_model(model, tmp_path / "run")
    shutil.rmtree(folder)
    again = vlfew.load(tmp_path / "run")
    assert torch.equal(again.encode_image(x), model.encode_image(x))
    assert again.backbone.pixel_std == PIXELS["std"]


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("timm:vit_base_patch16_224.augreg_in21k", (224, "crop", 248, "bicubic")),
        ("timm:dm_nfnet_f0.dm_in1k", (192, "stretch", 213, "bicubic")),
    ],
)
def test_preprocessing_of_published_models(name: str, frame: tuple[Any, ...]) -> None:
    preprocessor = PRETRAINED_MODELS.get(name)().preprocessor
    assert (
        preprocessor.image_size,
        preprocessor.resize,
        preprocessor.resize_first.size,
        preprocessor.interpolation,
    ) == frame


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        BACKBONES.get("timm:./nowhere")(3, 48)
    with pytest.raises(ModelError, match="of someone/net is not in the cache"):
        BACKBONES.get("timm:someone/net")(3, 48)
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        BACKBONES.get(f"timm:{tmp_path}")(3, 48)
    save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "test_resnet"}))
    with pytest.raises(ModelError, match="cannot be built for images of 3 x 48 x 48") as caught:
        BACKBONES.get(f"timm:{tmp_path}")(3, 48)
    assert "\n" not in str(caught.value)


def test_the_published_classifier_of_a_folder(tmp_path: Path) -> None:
    vit = save(tmp_path)
    backbone = BACKBONES.get(f"timm:{tmp_path}")(3, 48).eval()
    known = backbone.pretrained_classifier()
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert_close(known.layer(backbone(x).embedding), vit(x))
    assert len(known.names) == 1000 and known.names[0] == ["tench", "Tinca tinca"]
    with pytest.raises(ModelError, match="the published classifier of this backbone is not at hand"):
        BACKBONES.get("timm:test_vit")(3, 48).pretrained_classifier()
