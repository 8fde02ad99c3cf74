from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import vlfew
from tests.compare import assert_close
from tests.encoders.towers import CONFIGS, MEAN, STD, save
from vlfew.core.errors import ModelError
from vlfew.encoders import BACKBONES, TEXT_ENCODERS
from vlfew.encoders.text.base import TextEncoder
from vlfew.models import load, save_model

KINDS = list(CONFIGS)
GRIDS = {"ConvNext": (8, 1), "ResNet": (8, 2), "Swin": (16, 6)}
"""Channels and side of the maps of 24 x 24 pixels, where they are not patches of four pixels."""
TEXT = ["a cat", "the small green letter of a treaty", "dogs"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_image_tower_from_a_folder(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path)
    size = {"ConvNext": 32, "ResNet": 16}.get(kind, 24)  # most are positions of 16, interpolated
    backbone = BACKBONES.get(f"transformers:{tmp_path}")(3, size)
    x = torch.randn(2, 3, size, size)
    features = backbone(x)
    assert features.embedding.shape == (2, backbone.dim)
    channels, side = GRIDS.get(kind, (16, 6))
    assert features.map.shape == (2, channels, side, side)
    assert backbone.pretrained_on
    assert (backbone.pixel_mean, backbone.pixel_std) == (tuple(MEAN), tuple(STD))
    backbone.train()
    backbone(x).embedding.square().sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []

    options = json.loads(json.dumps(backbone.saved_options))
    assert str(tmp_path) not in json.dumps(options)
    shutil.rmtree(tmp_path)
    twin = BACKBONES.get(f"transformers:{tmp_path}")(3, size, **options).eval()
    twin.load_state_dict(backbone.state_dict())
    backbone.eval()
    with torch.no_grad():
        assert torch.equal(twin(x).embedding, backbone(x).embedding)
    assert (twin.pixel_mean, twin.dim) == (backbone.pixel_mean, backbone.dim)


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_an_image_text_model_gives_its_projected_images(kind: str, tmp_path: Path) -> None:
    reference = save(kind, tmp_path)
    backbone = BACKBONES.get(f"transformers:{tmp_path}")(3, 16).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = reference.get_image_features(pixel_values=x).pooler_output
        assert_close(backbone(x).embedding, expected)
    assert not any("text" in name or "logit" in name for name in backbone.state_dict())


def test_a_tower_with_its_projection_alone(bert_folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from tests.encoders.towers import TEXT

    vision = save("CLIPVision", tmp_path / "image", "ModelWithProjection")
    x = torch.randn(2, 3, 16, 16)
    backbone = BACKBONES.get(f"transformers:{tmp_path / 'image'}")(3, 16).eval()
    with torch.no_grad():
        assert_close(backbone(x).embedding, vision(pixel_values=x).image_embeds)

    folder = tmp_path / "text"
    text = CLIPTextModelWithProjection(CLIPTextConfig(**TEXT, projection_dim=12)).eval()
    shutil.copytree(bert_folder, folder, ignore=shutil.ignore_patterns("config.json", "model.safetensors"))
    text.save_pretrained(folder)
    encoder = TEXT_ENCODERS.get(f"hf:{folder}")()
    tokens = encoder.tokenize(TEXT)
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        assert_close(encoder.encode(TEXT), text(**tokens).text_embeds)
    twin = TextEncoder.from_saved(json.loads(json.dumps(encoder.saved_config())))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin.encode(TEXT), encoder.encode(TEXT))
    assert encoder.pretrained_on_images and encoder.dim == 12


def test_gray_images_are_three_equal_channels(tmp_path: Path) -> None:
    save("ViT", tmp_path)
    rgb, gray = (BACKBONES.get(f"transformers:{tmp_path}")(c, 16).eval() for c in (3, 1))
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(gray(x).embedding, rgb(x.expand(-1, 3, -1, -1)).embedding)
    assert gray.pixel_mean == pytest.approx((0.2,))


def test_weights_without_a_pooler_give_the_class_token(tmp_path: Path) -> None:
    """Such as the weights of classifiers."""
    classifier = save("ViT", tmp_path, "ForImageClassification")
    backbone = BACKBONES.get(f"transformers:{tmp_path}")(3, 16).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        logits = classifier.classifier(backbone(x).embedding)
        assert_close(logits, classifier(pixel_values=x).logits)
    assert not any("pooler" in name for name in backbone.state_dict())
    twin = BACKBONES.get(f"transformers:{tmp_path}")(3, 16, **backbone.saved_options)
    assert twin.state_dict().keys() == backbone.state_dict().keys()


@pytest.mark.parametrize(
    ("edge", "resize", "first"), [(224, "crop", 256), (384, "stretch", 384)], ids=["small", "large"]
)
def test_convnext_preprocessing(edge: int, resize: str, first: int, tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessor

    save("ConvNext", tmp_path)
    ConvNextImageProcessor(size={"shortest_edge": edge}, crop_pct=0.875).save_pretrained(tmp_path)
    spec = vlfew.load(f"transformers:{tmp_path}").spec
    assert spec.resize_first is not None
    assert (spec.image_size, spec.resize, spec.resize_first.size) == (edge, resize, first)


@pytest.mark.parametrize(
    ("kind", "preprocessor"),
    [("CLIP", (16, "crop", 20)), ("Siglip", (16, "stretch", 16))],
)
def test_both_towers_load_in_their_own_space(
    kind: str, preprocessor: tuple[int, str, int], bert_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tower"
    reference = save(kind, folder, bert_folder=bert_folder)
    model = vlfew.load(f"transformers:{folder}")
    spec = model.spec
    assert spec.resize_first is not None and spec.resize_first.backend == "torchvision"
    assert (spec.image_size, spec.resize, spec.resize_first.size) == preprocessor
    assert spec.interpolation == "bicubic" and spec.outside_data
    x = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    pixels = (x.float() / 255 - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
    with torch.no_grad():
        images = reference.get_image_features(pixel_values=pixels).pooler_output
        texts = reference.get_text_features(**model.text_encoder.tokenize(TEXT)).pooler_output
    assert_close(model.encode_image(x), images)
    assert_close(model.encode_text(TEXT), texts)
    save_model(model, tmp_path / "run")
    shutil.rmtree(folder)
    again = load(tmp_path / "run")
    assert torch.equal(again.encode_image(x), model.encode_image(x))
    assert torch.equal(again.encode_text(TEXT), model.encode_text(TEXT))
    assert again.spec.preprocessor() == spec.preprocessor()


def test_an_image_model_loads_without_text(tmp_path: Path) -> None:
    save("Dinov2", tmp_path)
    model = vlfew.load(f"transformers:{tmp_path}")
    assert not model.has_text and model.spec.outside_data


def test_mistakes_are_one_line(bert_folder: Path, tmp_path: Path) -> None:
    save("ViT", tmp_path)
    name = f"transformers:{tmp_path}"
    with pytest.raises(ModelError, match="1 or 3 channels, got 4"):
        BACKBONES.get(name)(4, 16)
    with pytest.raises(ModelError, match="cannot be built for images of 3 x 3 x 3"):
        BACKBONES.get(name)(3, 3)
    with pytest.raises(ModelError, match="no such folder"):
        BACKBONES.get("transformers:./nowhere")(3, 16)
    with pytest.raises(ModelError, match="of someone/vit is not in the cache"):
        BACKBONES.get("transformers:someone/vit")(3, 16)
    shutil.copytree(bert_folder, tmp_path / "bert")
    shutil.copy(tmp_path / "preprocessor_config.json", tmp_path / "bert")
    with pytest.raises(ModelError, match="a model of text alone; use it as the text encoder"):
        BACKBONES.get(f"transformers:{tmp_path / 'bert'}")(3, 16)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"needs the model's preprocessor_config\.json") as caught:
        BACKBONES.get(name)(3, 16)
    assert "\n" not in str(caught.value)
