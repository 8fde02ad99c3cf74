"""Models and tokenizers of transformers: read from a folder, and rebuilt from saved JSON without one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vlfew.core.errors import ModelError
from vlfew.encoders.library_errors import library_errors

SAFETENSORS = "model*.safetensors"
WEIGHTS = (SAFETENSORS, "pytorch_model*.bin")
TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
WITH_PROJECTION = "ModelWithProjection"
"""Suffix of transformers' classes of a single tower with its projection into the joint space."""


def check_files(folder: Path, who: str, others: str) -> None:
    """Checks that a folder holds an architecture and weights.

    Args:
        folder: of a model saved by transformers.
        who: the component that needs it, for messages.
        others: what else it must hold, for the message.

    Raises:
        ModelError: a file is missing.
    """
    if not (folder / "config.json").is_file() or not any(any(folder.glob(p)) for p in WEIGHTS):
        raise ModelError(
            f"{who}: {folder} needs config.json, {others} and model.safetensors;"
            " save a model there with save_pretrained"
        )


def read_model(folder: Path, who: str) -> tuple[Any, list[str]]:
    """The model in a folder, in float32, and the names of the weights that are missing there.

    Raises:
        ModelError: it cannot be read, or its weights do not fit its architecture.
    """
    from transformers import AutoConfig

    with library_errors(f"{who}: cannot read the model in {folder}"), quiet():
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, report = _model_class(config).from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
        )
    for key, stored, expected in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"{who}: {folder / 'config.json'} does not match the weights: {key} is {tuple(expected)} by "
            f"config.json and {tuple(stored)} in the weights"
        )
    return model, sorted(report["missing_keys"])


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
    """The class of a configuration's model, with its projection where the checkpoint has one."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    architecture = (config.architectures or [""])[0]
    if architecture.endswith(WITH_PROJECTION) and hasattr(transformers, architecture):
        return getattr(transformers, architecture)
    try:
        model_class = MODEL_MAPPING[type(config)]
    except KeyError:
        raise ModelError(f"transformers has no base model of type {config.model_type!r}") from None
    return model_class[0] if isinstance(model_class, tuple) else model_class


def remove_other_tower(model: Any, *prefixes: str) -> None:
    """Removes one tower of an image-text model, what joins both, and the scale and bias of its logits.

    Unused parameters get no gradient, which would stop training on several processes.

    Args:
        model: changed in place.
        prefixes: of the names of the removed tower's modules.
    """
    for name, _ in list(model.named_children()):
        if name.startswith((*prefixes, "multimodal")) or "_to_mm_" in name:
            setattr(model, name, None)
    for name, _ in list(model.named_parameters(recurse=False)):
        setattr(model, name, None)


def text_positions(model: Any) -> int | None:
    """How many tokens a text model has positions for; None if it has no table of them.

    Those of RoBERTa begin after that of its padding token.
    """
    for name, module in model.named_modules():
        is_table = isinstance(module, torch.nn.Embedding) and "position_embedding" in name
        if is_table and not name.startswith(("vis", "image")):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def read_tokenizer(folder: Path, who: str) -> Any:
    """The tokenizer in a folder.

    Raises:
        ModelError: it cannot be read.
    """
    from transformers import AutoTokenizer

    with library_errors(f"{who}: cannot read the tokenizer in {folder}"), quiet():
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokenizer_files(tokenizer: Any) -> dict[str, Any]:
    """The JSON files of a fast tokenizer, by name.

    Raises:
        ModelError: it has no `tokenizer.json`.
    """
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {p.name: json.loads(p.read_text("utf-8")) for p in sorted(Path(folder).glob("*.json"))}
    if "tokenizer.json" not in files:
        raise ModelError(f"{type(tokenizer).__name__} has no tokenizer.json; a model with it cannot be saved")
    return files


def tokenizer_from_files(files: Mapping[str, Any]) -> Any:
    """The tokenizer of `tokenizer_files`."""
    with json_folder(files) as folder:
        return read_tokenizer(folder, "saved tokenizer")


@contextmanager
def json_folder(files: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder with JSON files of the given names and contents."""
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content), "utf-8")
        yield Path(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Hides transformers' progress bars and load reports; `read_model` checks the latter itself."""
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
