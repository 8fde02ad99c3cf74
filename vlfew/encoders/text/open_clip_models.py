"""The text tower of any open_clip model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vlfew.core.features import Features
from vlfew.core.outside_data import NOT_KNOWN
from vlfew.encoders.hub import hub_folder, read_json
from vlfew.encoders.open_clip_towers import (
    CONFIG,
    NO_VISION,
    OpenClipModel,
    build_tower,
    find_model,
    load_tower,
    pretraining_data,
)
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.transformers_files import json_folder, read_tokenizer, tokenizer_files


class OpenClipText(TextEncoder):
    """The text tower of an open_clip model.

    Args:
        tower: takes token ids `[T, L]` and returns `(embedding, tokens)`.
        tokenizer: open_clip's, called on texts.
        saved: see `saved_config`.
    """

    tower: Any

    def __init__(self, tower: Any, tokenizer: Any, saved: dict[str, Any]) -> None:
        super().__init__()
        tower.output_tokens = True
        self.tower, self.tokenizer, self._saved = tower.eval(), tokenizer, saved
        self.dim = saved["config"]["embed_dim"]
        self.pretrained_on_images = NOT_KNOWN if saved["pretrained"] else ""

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to `input_ids [T, L]`, L being the tower's context length."""
        return {"input_ids": self.tokenizer(list(texts))}

    def forward(self, tokens: Mapping[str, Tensor]) -> Features:
        """`input_ids [T, L]` to float32 `embedding [T, D]` and `tokens [T, L, W]`."""
        embedding, hidden = self.tower(tokens["input_ids"])
        return Features(embedding.float(), tokens=hidden.float())

    def token_embedding(self) -> nn.Embedding:
        """The layer from token ids to vectors."""
        tower: Any = self.tower
        # Hugging Face's text towers have it inside.
        own = hasattr(tower, "token_embedding")
        layer: nn.Embedding = tower.token_embedding if own else tower.transformer.get_input_embeddings()
        return layer

    def saved_config(self) -> dict[str, Any]:
        """Architecture and, where they are not open_clip's own, tokenizer and inner configuration."""
        return self._saved


def open_clip_text(name: str) -> OpenClipText:
    """`open_clip:ARCH/TAG`, `open_clip:FOLDER` or, randomly initialized, `open_clip:ARCH`: the text tower.

    Raises:
        ModelError: see `find_model`, `load_tower`.
    """
    model, who = find_model(name), f"open_clip:{name}"
    text = model.config["text_cfg"]
    saved: dict[str, Any] = {
        "kind": "open_clip",
        "config": model.tower_config("text_cfg"),
        "tokenizer": None,
        "hf_config": None,
        "pretrained": model.weights is not None,
    }
    if text.get("hf_tokenizer_name"):
        files = ("tokenizer.json", "*.model", "vocab.*")
        folder = _inner_folder(model, text["hf_tokenizer_name"], files, who)
        saved["tokenizer"] = tokenizer_files(read_tokenizer(folder, who))
    if text.get("hf_model_name"):
        folder = _inner_folder(model, text["hf_model_name"], ("config.json",), who)
        saved["hf_config"] = read_json(folder / "config.json", who)
    encoder = from_saved(saved)
    if model.weights is not None:
        load_tower(encoder.tower, "text", model.weights, who)
        encoder.pretrained_on_images = pretraining_data(name)
    return encoder


def _inner_folder(model: OpenClipModel, repo: str, files: Sequence[str], who: str) -> Path:
    """Where the Hugging Face parts of a text tower are: next to the weights, else on the hub."""
    if model.folder is not None and any(any(model.folder.glob(f)) for f in files):
        return model.folder
    return hub_folder(
        repo, files, ("*.json", "*.txt"), who=who, alternative=f"put {files[0]} next to {CONFIG}"
    )


def from_saved(saved: Mapping[str, Any]) -> OpenClipText:
    """A randomly initialized text tower from `OpenClipText.saved_config`."""
    config = saved["config"]
    text = dict(config["text_cfg"])
    inner = saved["hf_config"]
    with nullcontext() if inner is None else json_folder({"config.json": inner}) as folder:
        if folder is not None:
            text["hf_model_name"] = str(folder)
        tower = build_tower("text", {**config, "text_cfg": text, "vision_cfg": NO_VISION}, "open_clip")
    return OpenClipText(tower, _tokenizer(text, saved["tokenizer"]), dict(saved))


def _tokenizer(text: Mapping[str, Any], files: Mapping[str, Any] | None) -> Any:
    """open_clip's tokenizer for a text configuration: a Hugging Face one from its files, or its own."""
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    options = {"context_length": text.get("context_length", 77)} | (text.get("tokenizer_kwargs") or {})
    if files is None:
        return SimpleTokenizer(**options)
    with json_folder(files) as folder:
        return HFTokenizer(str(folder), tokenizer_mode=text.get("tokenizer_mode"), **options)
