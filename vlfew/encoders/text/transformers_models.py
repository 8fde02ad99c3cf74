"""Any text encoder of transformers, and the text towers of its image-text models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from einops import reduce, repeat
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.core.outside_data import NOT_KNOWN
from vlfew.encoders import transformers_files as hf_files
from vlfew.encoders.hub import check_complete, local_or_hub_folder, read_json
from vlfew.encoders.text.base import TextEncoder


class TransformersText(TextEncoder):
    """A text encoder of transformers with its tokenizer.

    Args:
        model: an encoder, or an image-text model, whose image tower is removed.
        tokenizer: its tokenizer.
        pooling: `mean` over the tokens without padding, the first token (`cls`), or the model's own `pooler`.
            Image-text models and text towers with a projection always return their projected embedding.
        max_length: texts are truncated to this many tokens.
        pretrained: whether the weights were trained on other data.
    """

    model: Any
    architecture: Any

    def __init__(self, model: Any, tokenizer: Any, pooling: str, max_length: int, pretrained: bool) -> None:
        super().__init__()
        # Not called `config`: peft would take this module for one of transformers.
        self.architecture = model.config
        self.joint = hasattr(model, "get_text_features")
        self.projected = type(model).__name__.endswith(hf_files.WITH_PROJECTION)
        if self.joint:
            hf_files.remove_other_tower(model, "vis", "image")
        elif self.architecture.is_encoder_decoder:
            model = model.get_encoder()
        own_pooling = pooling == "pooler" or self.joint or self.projected
        if not own_pooling and isinstance(getattr(model, "pooler", None), nn.Module):
            model.pooler = None  # unused weights would get no gradient
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.pooling, self.max_length, self.pretrained = pooling, max_length, pretrained
        if pretrained and is_image_text_model(self.architecture):
            self.pretrained_on_images = NOT_KNOWN
        # SigLIP was trained on texts padded to one length, without an attention mask.
        self.padding = "max_length" if self.architecture.model_type.startswith("siglip") else "longest"
        with torch.no_grad():
            self.dim = self(self.tokenize(["a"])).embedding.shape[1]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to `input_ids`, `attention_mask` and what else the model takes, each `[T, L]`."""
        options = {"padding": self.padding, "truncation": True, "max_length": self.max_length}
        return dict(self.tokenizer(list(texts), return_tensors="pt", **options))

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each of T texts; a batch of equal ones needs no padding."""
        if not texts:
            return []
        tokens = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        return [len(ids) for ids in tokens["input_ids"]]

    def forward(self, tokens: Mapping[str, Tensor]) -> Features:
        """Inputs `[T, L]` to float32 `embedding [T, D]` and `tokens [T, L, W]`."""
        output = self.model.get_text_features(**tokens) if self.joint else self.model(**tokens)
        hidden = output.last_hidden_state.float()
        if self.projected:
            return Features(output.text_embeds.float(), tokens=hidden)
        if self.joint or self.pooling == "pooler":
            if getattr(output, "pooler_output", None) is None:
                raise ModelError(
                    f"{self.architecture.model_type} models have no pooler; use pooling: mean or cls"
                )
            pooled = output.pooler_output.float()
            return Features(
                pooled[:, 0] if pooled.ndim == 3 else pooled, tokens=hidden
            )  # FLAVA projects all tokens
        if self.pooling == "cls":
            return Features(hidden[:, 0], tokens=hidden)
        mask = tokens.get("attention_mask", torch.ones_like(tokens["input_ids"]))
        mask = repeat(mask, "t l -> t l 1").to(hidden.dtype)
        return Features(reduce(hidden * mask, "t l d -> t d", "sum") / mask.sum(1), tokens=hidden)

    def token_embedding(self) -> nn.Embedding:
        """The layer from token ids to vectors."""
        model = getattr(self.model, "text_model", self.model)
        layer: nn.Embedding = model.get_input_embeddings()
        return layer

    def saved_config(self) -> dict[str, Any]:
        """Architecture, tokenizer files and pooling."""
        return {
            "kind": "huggingface",
            "config": hf_files.config_dict(self.architecture),
            "tokenizer": hf_files.tokenizer_files(self.tokenizer),
            "pooling": self.pooling,
            "max_length": self.max_length,
            "pretrained": self.pretrained,
        }


def from_saved(saved: Mapping[str, Any]) -> TransformersText:
    """A randomly initialized encoder from `TransformersText.saved_config`."""
    model = hf_files.model_from_config(saved["config"])
    tokenizer = hf_files.tokenizer_from_files(saved["tokenizer"])
    return TransformersText(model, tokenizer, saved["pooling"], saved["max_length"], saved["pretrained"])


def is_image_text_model(config: Any) -> bool:
    """Whether an architecture is an image-text model, or the text tower of one."""
    if any(hasattr(config, part) for part in ("vision_config", "image_config")):
        return True
    kind = str(config.model_type)
    return kind.endswith("_text_model") and not kind.startswith("clap")  # CLAP was trained with sounds


def hf(name: str, *, pooling: Literal["mean", "cls", "pooler"] = "mean") -> TransformersText:
    """`hf:NAME_OR_PATH`, any text encoder of transformers.

    Args:
        name: a folder, or a hub repository, which is downloaded if it is not in the cache.
        pooling: of token vectors to one embedding; image-text models use their own projection.

    Raises:
        ModelError: weights that cannot be downloaded or read.
    """
    who = f"hf:{name}"
    return load_text_encoder(
        local_or_hub_folder(name, hf_files.WEIGHTS, hf_files.TOKENIZER_FILES, who), pooling, who
    )


VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
"""Files that hold a tokenizer's vocabulary; one of them is needed."""


def load_text_encoder(folder: Path, pooling: str, who: str) -> TransformersText:
    """The encoder in a folder of `config.json`, tokenizer files and weights.

    Raises:
        ModelError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    hf_files.check_files(folder, who, "tokenizer files")
    if not any(any(folder.glob(pattern)) for pattern in VOCABULARY_FILES):
        # transformers would make an empty tokenizer, for which all texts are alike.
        raise ModelError(
            f"{who}: {folder} has no tokenizer files; put the model's there (tokenizer.json, or its vocabulary: "
            f"{', '.join(VOCABULARY_FILES[1:])})"
        )
    tokenizer = hf_files.read_tokenizer(folder, who)
    model, missing = hf_files.read_model(folder, who)
    check_complete([k for k in missing if pooling == "pooler" or not k.startswith("pooler.")], folder, who)
    _check_vocabulary(tokenizer, model.config, who)
    _check_pooling(folder, pooling, model.config, who)
    max_length = _max_length(folder, tokenizer, model, who)
    return TransformersText(model, tokenizer, pooling, max_length, True)


def _check_vocabulary(tokenizer: Any, config: Any, who: str) -> None:
    """Checks that the model has a vector for every token; another model's tokenizer may have more."""
    model_size = getattr(config.get_text_config(), "vocab_size", None)
    tokenizer_size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if model_size is not None and tokenizer_size > model_size:
        raise ModelError(
            f"{who}: the tokenizer has {tokenizer_size:,} tokens, but the model's vocabulary {model_size:,}; "
            "use the tokenizer of this model"
        )


def _check_pooling(folder: Path, pooling: str, config: Any, who: str) -> None:
    """Checks pooling and width against those that a sentence encoder was published with."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return
    published = read_json(file, who)
    width, model_width = published.get("word_embedding_dimension"), config.get_text_config().hidden_size
    if width not in (None, model_width):
        raise ModelError(
            f"{who}: {file} is for token vectors of {width} dimensions, but the model has {model_width}"
        )
    modes = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
    trained = [mode for mode, key in modes.items() if published.get(key)]
    if trained and pooling in modes and pooling not in trained:
        raise ModelError(
            f"{who} was trained with pooling: {trained[0]}, not {pooling}; set pooling: {trained[0]}"
        )


def _max_length(folder: Path, tokenizer: Any, model: Any, who: str) -> int:
    """Tokens a text may have: as the sentence encoder was trained, or the number of positions."""
    sentence = folder / "sentence_bert_config.json"
    if sentence.is_file() and (trained := read_json(sentence, who).get("max_seq_length")):
        return int(trained)
    positions = hf_files.text_positions(model)
    if positions is None:  # relative or rotary ones
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 512
    return int(min(tokenizer.model_max_length, positions))
