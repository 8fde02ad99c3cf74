"""Saved models: `model.safetensors` and `model.json`, which are all that is needed to load one.

Neither the configuration, the text encoder's original folder nor a network is needed: the JSON holds the architecture
of both streams and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from vlfew.core.errors import ModelError
from vlfew.core.files import sha256, write_tensors
from vlfew.data.image_files import digest
from vlfew.encoders.hub import check_whole
from vlfew.encoders.lora import merged
from vlfew.models.build import backbone_options, preprocessing_options
from vlfew.models.format1 import current_description, current_tensor_names
from vlfew.models.spec import ModelSpec

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

FORMAT = 2
_FOLDER = re.compile(r":[./~].*")
"""In a name such as `timm:/models/vit`."""
STATISTICS = (
    "pixel_mean",
    "pixel_std",
    "image_mean",
    "text_mean",
    "running_mean",
    "running_var",
    "num_batches_tracked",
)
"""Names of stored tensors that are no parameters."""
STATISTICS_OF = ("preprocessing.", "class_neighbors.", "whitening.", "class_probabilities.")
"""Modules that have no parameters."""


def save_model(model: DualStream, folder: Path, metadata: dict[str, Any] | None = None) -> None:
    """Writes `model.safetensors` and `model.json`; LoRA adapters are merged into the weights they adapt.

    Args:
        model: the model to save.
        folder: created if missing.
        metadata: what it was trained on (`trained_on`, `data_fingerprint` ...), for its readers.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    spec, tensors = _saved_parts(model)
    description = {
        "format": FORMAT,
        "metadata": {"trained_parameters": trained} | (metadata or {}),
        "model": spec,
    }
    write_tensors(folder / "model.safetensors", tensors, description=description)


def fingerprint_of(model: DualStream) -> str:
    """A hash of a model's architecture and weights, 16 hex digits; saving and loading the model does not change it.

    (Models of format 1 have that of their files until they are saved again.)

    Raises:
        ModelError: a model that cannot be saved; says why.
    """
    if model.fingerprint is not None:
        return model.fingerprint
    spec, tensors = _saved_parts(model)
    try:
        with TemporaryDirectory() as folder:  # in memory, the file would need as much again as the model
            weights = Path(folder) / "model.safetensors"
            write_tensors(weights, tensors)
            digest_of_weights = sha256(weights)
    except OSError:  # no space there
        digest_of_weights = hashlib.sha256(save(tensors)).hexdigest()
    return _fingerprint(digest_of_weights, json.loads(json.dumps(spec)))


def _fingerprint(weights: str, spec: dict[str, Any]) -> str:
    """Hash of the weights' hash and of the spec, which counts too: test-time augmentation changes embeddings.

    Folders that towers came from are left out: the same files may lie elsewhere on another machine.
    """
    spec, text = dict(spec), spec.get("text")
    spec["backbone"] = _FOLDER.sub(":", spec["backbone"])
    if text is not None:
        spec["text"] = text | {"encoder": _FOLDER.sub(":", text["encoder"])}
    return digest(weights, spec)


def _saved_parts(model: DualStream) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The architecture as JSON values, and the weights, LoRA adapters merged into them."""
    spec = model.spec.model_copy(deep=True)
    if spec.backbone_lora is not None or (spec.text is not None and spec.text.lora is not None):
        model = merged(model)
        spec.backbone_lora = None
    spec.backbone_options = backbone_options(spec, model.backbone)
    spec.preprocessing_options = preprocessing_options(spec, model.preprocessing)
    if model.text_encoder is not None and spec.text is not None:
        spec.text.lora = None
        spec.text.saved = model.text_encoder.saved_config()
    return spec.model_dump(mode="json"), {k: v.contiguous() for k, v in model.state_dict().items()}


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a saved model.

    Raises:
        ModelError: the folder holds no model, or none that this version reads.
    """
    metadata: dict[str, Any] = _read_description(folder)["metadata"]
    return metadata


def read_spec(folder: Path) -> ModelSpec:
    """The architecture of a saved model.

    Raises:
        ModelError: the folder holds no model, or none that this version reads.
    """
    try:
        return ModelSpec.model_validate(_read_description(folder)["model"])
    except (KeyError, ValidationError):
        raise ModelError(f"{folder / 'model.json'} does not describe a model of this version") from None


def parameter_counts(folder: Path) -> tuple[int, int]:
    """Numbers of trained and of frozen parameters of a saved model; its weights are not loaded.

    Raises:
        ModelError: missing or damaged files; says which.
    """
    spec, weights = read_spec(folder), folder / "model.safetensors"
    trained = read_metadata(folder).get("trained_parameters")
    frozen = ("backbone.", "right_backbone.") * spec.backbone_frozen
    frozen += ("text_encoder.",) * (spec.text is not None and spec.text.frozen)
    counts = {True: 0, False: 0}
    try:
        with safe_open(weights, "pt") as file:
            names = list(file.keys())
            current = current_tensor_names(names)
            for name in names:
                new = current[name]
                if not new.startswith(STATISTICS_OF) and not new.endswith(STATISTICS):
                    counts[new.startswith(frozen)] += math.prod(file.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{weights} cannot be read: {error}") from None
    # Models saved without the count had their encoders either trained completely or frozen.
    return (counts[False], counts[True]) if trained is None else (trained, sum(counts.values()) - trained)


def read_model(model_class: type[DualStream], folder: Path) -> DualStream:
    """Builds a saved model and loads its weights, after checking its files.

    Raises:
        ModelError: missing, truncated, altered or unfitting files; says which.
    """
    description, spec = _read_description(folder), read_spec(folder)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{weights} is missing")
    check_whole(folder, "this model")
    if sha256(weights) != description.get("sha256"):
        raise ModelError(
            f"{weights} is damaged: its SHA-256 differs from the one in model.json; train or copy it again"
        )
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ModelError(f"{weights} is not a safetensors file: {error}") from None
    current = current_tensor_names(tensors)
    model = model_class.from_spec(spec)
    missing, unexpected = model.load_state_dict({current[n]: t for n, t in tensors.items()}, strict=False)
    if missing or unexpected:
        problem = f"{missing[0]!r} is missing" if missing else f"{unexpected[0]!r} is unexpected"
        raise ModelError(f"{weights} does not match model.json: {problem}")
    model.metadata, model.path = description["metadata"], folder
    model.fingerprint = _fingerprint(description["sha256"], description["model"])
    return model.eval()


def _read_description(folder: Path) -> dict[str, Any]:
    """The content of `model.json`, in the current format."""
    path = folder / "model.json"
    if not path.is_file():
        if members := sorted(file.parent for file in folder.glob("*/model.json")):
            raise ModelError(
                f"{folder} holds {len(members)} models; choose one of them, such as {members[0]}"
            )
        raise ModelError(f"{folder} holds no model (no model.json); has its training finished?")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ModelError(f"{path} is not JSON; it may be truncated") from None
    if description.get("format") == 1:
        description = current_description(description)
    if description.get("format") != FORMAT:
        raise ModelError(
            f"{path} has format {description.get('format')!r}; this version reads 1 and {FORMAT}"
        )
    return description
