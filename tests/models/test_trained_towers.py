"""Partial training of encoders: their last blocks, or LoRA adapters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tests.encoders.conftest as tiny_models
from tests.compare import assert_close, relative_difference
from tests.encoders.towers import save
from vlfew.core.config import Config, LoraConfig
from vlfew.core.config_file import parse_config
from vlfew.core.errors import ConfigError, ModelError
from vlfew.encoders import BACKBONES
from vlfew.encoders.unfreeze import find_blocks
from vlfew.models import DualStream, ModelSpec, load, save_model
from vlfew.models.serialization import parameter_counts
from vlfew.models.spec import TextSpec

bert_folder, clip_folder = tiny_models.bert_folder, tiny_models.clip_folder
NAMES = ["ViT", "CLIP", "Dinov2", "Swin", "timm:test_vit", "timm:test_resnet", "timm:test_nfnet"]
NAMES += ["open_clip", "torchvision:resnet18", "conv4", "resnet12"]


@pytest.fixture
def tower(request: pytest.FixtureRequest, tmp_path: Path, clip_folder: Path) -> str:
    """The registry name of a backbone of the given kind."""
    kind = request.param
    if kind == "open_clip":
        return f"open_clip:{clip_folder}"
    if ":" in kind or kind[0].islower():
        return str(kind)
    save(kind, tmp_path / "tower")
    return f"transformers:{tmp_path / 'tower'}"


def build(name: str, **changes: Any) -> DualStream:
    torch.manual_seed(0)
    spec = {"backbone": name, "backbone_frozen": True, "embedding_dim": 8, "image_size": 64, "channels": 3}
    if name.startswith(("transformers:", "open_clip:")):
        spec["image_size"] = 32
    return DualStream.from_spec(ModelSpec.model_validate(spec | changes))


def pixels(model: DualStream) -> torch.Tensor:
    side = model.spec.image_size
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("tower", NAMES, indirect=True)
def test_the_last_block_and_what_follows_are_trained(tower: str) -> None:
    model = build(tower, backbone_unfreeze_last=1).train()
    *others, last = find_blocks(model.backbone)
    before = model.backbone.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    assert all(p.requires_grad for p in last.parameters())
    assert not any(p.requires_grad for block in others for p in block.parameters())
    assert last.training and not others[0].training
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(pixels(model)).image.embedding.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    optimizer.step()
    changed = {n for n, v in model.backbone.state_dict().items() if not torch.equal(v, before[n])}
    trained = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert changed and {n for n in changed if not n.endswith(("mean", "var", "tracked"))} <= trained


def test_the_stem_is_trained_with_all_blocks_but_not_without(tmp_path: Path) -> None:
    save("CLIP", tmp_path)
    trained = []
    for count in (1, 2, 3):
        model = build(f"transformers:{tmp_path}", backbone_unfreeze_last=count)
        trained.append({n for n, p in model.backbone.named_parameters() if p.requires_grad})
    assert trained[0] < trained[1] < trained[2]
    assert {"model.visual_projection.weight", "model.vision_model.post_layernorm.bias"} <= trained[0]
    assert not any("embeddings" in name for name in trained[2])
    with pytest.raises(ModelError, match=r"image\.unfreeze_last is 4, but the encoder has 3 blocks"):
        build(f"transformers:{tmp_path}", backbone_unfreeze_last=4)
    with pytest.raises(
        ModelError, match=r"image\.unfreeze_last is 1, but the encoder has no sequence of similar"
    ):
        build("embed2d", backbone_unfreeze_last=1)


def text(folder: Path, **changes: Any) -> TextSpec:
    return TextSpec.model_validate({"encoder": f"hf:{folder}", "projection": "linear"} | changes)


def test_last_blocks_and_lora_of_the_text_tower(bert_folder: Path, tmp_path: Path) -> None:
    texts = ["a cat", "the green mug"]
    for number, changes in enumerate(({"unfreeze_last": 1}, {"lora": {"rank": 2, "dropout": 0.5}})):
        model = build("conv4", text=text(bert_folder, **changes)).train()
        trained = [n for n, p in model.text_encoder.named_parameters() if p.requires_grad]
        assert trained and all("layer.1." in n or "lora_" in n for n in trained)
        assert not model.text_encoder.training
        before = model.encode_text(texts)  # cached only where the encoder is fixed
        with torch.no_grad():
            for name, p in model.text_encoder.named_parameters():
                if name in trained:
                    p.add_(torch.randn_like(p))
        tokens = model.train().text_encoder.tokenize(texts)
        assert not torch.equal(model.text_encoder(tokens).embedding, model.text_encoder(tokens).embedding)
        after = model.encode_text(texts)
        assert relative_difference(before, after) > 1e-3
        save_model(model, tmp_path / str(number))
        assert_close(load(tmp_path / str(number)).encode_text(texts), after)


@pytest.mark.parametrize("tower", ["ViT", "CLIP", "open_clip", "timm:test_vit", "conv4"], indirect=True)
def test_lora_is_trained_alone_and_saved_merged(
    tower: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build(tower)
    model = build(tower, backbone_lora=LoraConfig(rank=2, alpha=8))
    x = pixels(model)
    assert_close(model.encode_image(x), plain.encode_image(x))
    model.train()
    trained = [n for n, p in model.backbone.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    for _ in range(3):  # the second factor starts at zero, and so does the gradient of the first
        loss = model(x).image.embedding.square().sum()
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.sub_(0.5 * p.grad / p.grad.norm().clamp(min=1e-6))
    found = model.encode_image(x)
    assert relative_difference(found, plain.encode_image(x)) > 1e-3
    save_model(model, tmp_path / "run")
    assert_close(model.encode_image(x), found)  # saving changes nothing
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert parameter_counts(tmp_path / "run")[0] == counted
    monkeypatch.setitem(sys.modules, "peft", None)
    again = load(tmp_path / "run")
    assert again.state_dict().keys() == plain.state_dict().keys()
    assert_close(again.encode_image(x), found)
    with pytest.raises(ModelError, match=r"image\.lora needs peft"):
        build(tower, backbone_lora=LoraConfig())


def test_lora_is_scaled_by_alpha_over_rank(tmp_path: Path) -> None:
    """The merged weight is W + alpha / rank * B A (equation 3)."""
    save("ViT", tmp_path)
    model = build(f"transformers:{tmp_path}", backbone_lora=LoraConfig(rank=2, alpha=6, layers="*q_proj"))
    layer = next(m for n, m in model.backbone.named_modules() if n.endswith("q_proj"))
    assert isinstance(layer, nn.Module)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    nn.init.normal_(b)
    expected = layer.base_layer.weight + 3 * b @ a
    save_model(model, tmp_path / "run")
    name = next(n for n, m in model.backbone.named_modules() if m is layer)
    found = load(tmp_path / "run").backbone.get_parameter(f"{name}.weight")
    assert_close(found, expected)
    with pytest.raises(ModelError, match=r"image\.lora\.layers: no layer .* matches '\*nothing'"):
        build(f"transformers:{tmp_path}", backbone_lora=LoraConfig(layers="*nothing"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"unfreeze_last": 2}, "unfreeze_last applies to a frozen encoder"),
        ({"lora": {}}, "lora applies to a frozen encoder"),
        ({"frozen": True, "unfreeze_last": 1, "lora": {"rank": 4}}, "choose one"),
        ({"frozen": True, "lora": {"rnak": 4}}, r"unknown key 'image\.lora\.rnak'; did you mean 'rank'"),
        ({"frozen": True, "lora": {"dropout": 1}}, r"image\.lora\.dropout"),
    ],
)
def test_mistakes_are_one_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config({"name": "x", "objective": [{"loss": "contrastive"}], "image": section}, {})
    assert len(caught.value.problems) == 1


def test_an_encoder_is_fixed_when_nothing_of_it_is_trained() -> None:
    config = Config.model_validate(
        {"objective": [{"loss": "contrastive"}], "image": {"frozen": True}, "text": {"unfreeze_last": 1}}
    )
    assert config.image.fixed and config.text.frozen and not config.text.fixed


def test_backbones_with_blocks_are_known() -> None:
    counts = {name: len(find_blocks(BACKBONES.get(name)(3, 64))) for name in ("conv4", "resnet12")}
    assert counts == {"conv4": 4, "resnet12": 4}
