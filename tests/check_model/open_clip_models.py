"""open_clip's architectures with random weights, as folders; small where the configuration allows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import save_file

INNER: dict[str, dict[str, Any]] = {
    "roberta-base": {"model_type": "roberta", "max_position_embeddings": 40},
    "xlm-roberta-base": {"model_type": "xlm-roberta", "max_position_embeddings": 40},
    "mt5-base": {"model_type": "mt5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    "nllb-200-distilled-600M": {"model_type": "m2m_100", "d_model": 16, "encoder_layers": 1}
    | {
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_layers": 1,
        "max_position_embeddings": 40,
    }
    | {"decoder_attention_heads": 2, "decoder_ffn_dim": 32},
}
"""Tiny models in place of text towers that open_clip takes from transformers."""
BERT_SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SEPARATOR = 3
"""BERT's token at the end of a text."""


def smaller(name: str, timm_model: str = "") -> dict[str, Any]:
    """The configuration of an architecture, narrow and with few layers; a network of timm has its own size.

    Args:
        name: of open_clip's.
        timm_model: a smaller network in place of the one that the configuration names.
    """
    config: dict[str, Any] = open_clip.get_model_config(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    config["embed_dim"] = 24
    if "timm_model_name" in vision:
        vision["timm_model_name"] = timm_model or vision["timm_model_name"]
        if vision["timm_proj"] == "none":  # the network's own width is that of the joint space
            config["embed_dim"] = timm.create_model(vision["timm_model_name"]).num_features
    elif isinstance(vision["layers"], list):
        vision |= {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    else:
        vision |= {"layers": 2, "width": 32, "head_width": 16, "image_size": 48, "patch_size": 16}
    if "attn_pooler_heads" in vision:
        vision["attn_pooler_heads"] = 2
    text["context_length"] = 24
    if "hf_model_name" not in text:
        own_tokenizer = "hf_tokenizer_name" not in text
        text |= {"width": 32, "heads": 2, "layers": 2, "vocab_size": 49408 if own_tokenizer else 64}
        if "eos_id" in text:
            text["eos_id"] = SEPARATOR
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"width": 32, "heads": 2, "layers": 1, "context_length": 24}
        config["multimodal_cfg"] |= {"attn_pooler_heads": 2}
        if "hf_model_name" not in text:
            text["vocab_size"] = 49408 + 1 if text.get("embed_cls") else 49408
    return config


def save(config: dict[str, Any], pixels: dict[str, Any], folder: Path, bert_folder: Path) -> None:
    """Writes a folder in the layout of the published ones, with random weights, and a tokenizer if one is needed."""
    text = config["text_cfg"]
    if "hf_tokenizer_name" in text or "hf_model_name" in text:
        for file in bert_folder.iterdir():
            if file.name not in ("config.json", "model.safetensors"):
                shutil.copy(file, folder)
    if "hf_model_name" in text:
        inner = INNER[text["hf_model_name"].rpartition("/")[2]]
        sizes = BERT_SIZES if "roberta" in inner["model_type"] else {}
        values = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": SEPARATOR, "bos_token_id": 2}
        (folder / "config.json").write_text(json.dumps(inner | sizes | values), "utf-8")
    content = {"model_cfg": config, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(content), "utf-8")
    built = json.loads(json.dumps(config))
    if "hf_model_name" in text:
        built["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", **{"text_cfg": built["text_cfg"]})
    state = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
