from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from tests.compare import assert_close
from tests.encoders.conftest import TOWERS
from vlfew.core.errors import ModelError
from vlfew.encoders import BACKBONES, TEXT_ENCODERS
from vlfew.encoders.text.base import TextEncoder

TEXTS = ["a cat", "two dogs", "a much longer text of a green treaty"]


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> open_clip.CLIP:
    """The same folder as open_clip reads it."""
    config = json.loads((clip_folder / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    model = open_clip.CLIP(**config)
    model.load_state_dict(load_file(clip_folder / "open_clip_model.safetensors"))
    return model.eval()


def test_image_tower(clip_folder: Path, clip: open_clip.CLIP) -> None:
    backbone = BACKBONES.get(f"open_clip:{clip_folder}")(3, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = backbone(images)
        assert_close(features.embedding, clip.encode_image(images))
    assert backbone.dim == 32 and backbone.pretrained_on == "not known"
    assert features.map.shape == (2, 24, 4, 4)
    assert (backbone.pixel_mean, backbone.pixel_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert not any("token_embedding" in name for name in backbone.state_dict())


def test_image_tower_in_gray_and_at_another_size(clip_folder: Path) -> None:
    rgb, gray = (BACKBONES.get(f"open_clip:{clip_folder}")(c, 48).eval() for c in (3, 1))
    image = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        features = gray(image)
        assert torch.equal(features.embedding, rgb(image.expand(-1, 3, -1, -1)).embedding)
    assert features.map.shape == (2, 24, 6, 6)
    assert gray.pixel_mean == pytest.approx((0.2,))
    with pytest.raises(ModelError, match="1 or 3 channels"):
        BACKBONES.get(f"open_clip:{clip_folder}")(4, 48)


def test_text_tower(clip_folder: Path, clip: open_clip.CLIP) -> None:
    encoder = TEXT_ENCODERS.get(f"open_clip:{clip_folder}")()
    ids = open_clip.SimpleTokenizer(context_length=16)(TEXTS)
    with torch.no_grad():
        expected = clip.encode_text(ids)
    assert_close(encoder.encode(TEXTS), expected)
    features = encoder(encoder.tokenize(TEXTS))
    assert encoder.dim == 32 and encoder.pretrained_on_images == "not known"
    features.embedding.sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    assert features.tokens is not None and features.tokens.shape == (3, 16, 16)
    assert not any("conv1" in name for name in encoder.state_dict())


def test_both_towers_are_rebuilt_without_the_folder(clip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(clip_folder, folder)
    backbone = BACKBONES.get(f"open_clip:{folder}")(3, 40).eval()
    encoder = TEXT_ENCODERS.get(f"open_clip:{folder}")()
    name, options = f"open_clip:{folder}", json.loads(json.dumps(backbone.saved_options))
    saved = json.loads(json.dumps(encoder.saved_config()))
    shutil.rmtree(folder)

    image_twin = BACKBONES.get(name)(3, 40, **options).eval()
    image_twin.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(image_twin(images).embedding, backbone(images).embedding)
    assert (image_twin.pixel_mean, image_twin.pretrained_on) == (backbone.pixel_mean, "not known")

    text_twin = TextEncoder.from_saved(saved)
    text_twin.load_state_dict(encoder.state_dict())
    assert torch.equal(text_twin.encode(TEXTS), encoder.encode(TEXTS))
    assert text_twin.pretrained_on_images


def test_random_towers_are_not_trained_with_images() -> None:
    encoder = TextEncoder.from_saved(
        {
            "kind": "open_clip",
            "config": {"embed_dim": 8, "text_cfg": TOWERS["text_cfg"], "quick_gelu": False},
            "tokenizer": None,
            "hf_config": None,
            "pretrained": False,
        }
    )
    assert not encoder.pretrained_on_images


def test_a_hugging_face_text_tower_in_a_folder(clip_folder: Path, bert_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bert_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((clip_folder / "open_clip_config.json").read_text("utf-8"))
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": "someone/tiny-bert",
        "hf_tokenizer_name": "someone/tiny-bert",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
        "context_length": 20,
    }
    text = {
        **config["model_cfg"]["text_cfg"],
        "hf_model_name": str(bert_folder),
        "hf_model_pretrained": False,
    }
    torch.manual_seed(1)
    model = open_clip.CustomTextCLIP(32, config["model_cfg"]["vision_cfg"], text).eval()
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = TEXT_ENCODERS.get(f"open_clip:{tmp_path}")()
    with torch.no_grad():
        expected = model.encode_text(encoder.tokenize(TEXTS)["input_ids"])
    assert_close(encoder.encode(TEXTS), expected)
    twin = TextEncoder.from_saved(json.loads(json.dumps(encoder.saved_config())))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin.encode(TEXTS), encoder.encode(TEXTS))
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"put config\.json next to open_clip_config\.json"):
        TEXT_ENCODERS.get(f"open_clip:{tmp_path}")()


def test_damaged_folders(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "open_clip_model.safetensors"
    intact = weights.read_bytes()
    for content, message in (
        (intact[: len(intact) // 2], "is damaged or cut short|cannot be loaded"),
        (b"", "is damaged or cut short|cannot be loaded"),
    ):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            BACKBONES.get(f"open_clip:{tmp_path}")(3, 32)
    weights.unlink()
    with pytest.raises(ModelError, match=r"holds no weights; put open_clip_model\.safetensors there"):
        TEXT_ENCODERS.get(f"open_clip:{tmp_path}")()
    (tmp_path / "open_clip_config.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match="cannot read"):
        TEXT_ENCODERS.get(f"open_clip:{tmp_path}")()


def test_weights_of_another_model(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "open_clip_config.json").read_text("utf-8"))
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    config["model_cfg"]["text_cfg"]["width"] = 32
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=r"lacks the weight 'visual\.transformer\.resblocks\.2"):
        BACKBONES.get(f"open_clip:{tmp_path}")(3, 32)
    with pytest.raises(ModelError, match=r"is damaged or cut short|cannot be loaded"):
        TEXT_ENCODERS.get(f"open_clip:{tmp_path}")()


def test_unreachable_hub_weights(no_hub: Path) -> None:
    name = "open_clip:RN50/openai"
    with pytest.raises(ModelError, match=r"about 40\d MB\).*not in the cache") as caught:
        BACKBONES.get(name)(3, 224)
    assert str(no_hub) in str(caught.value) and "\n" not in str(caught.value)
