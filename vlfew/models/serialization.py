"""A model on disk: `model.safetensors` and `model.json`, which together need nothing else.

Neither the configuration, nor the folder the text encoder came from, nor a network is needed to
load one again: the JSON holds the architecture of both streams and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from vlfew.core.errors import ModelError, first_line
from vlfew.core.files import atomic_file, sha256, write_atomic
from vlfew.data.image_files import digest
from vlfew.encoders import BACKBONES, PUBLISHED
from vlfew.encoders.image.backbone import Published
from vlfew.encoders.lora import merged
from vlfew.models.build import build_model
from vlfew.models.dual_stream import DualStream
from vlfew.models.inputs import told
from vlfew.models.spec import ModelSpec, TextSpec

FORMAT = 1
STATISTICS = (
    "pixel_mean",
    "pixel_std",
    "image_mean",
    "text_mean",
    "running_mean",
    "running_var",
    "num_batches_tracked",
)
"""Names of tensors that are kept beside the parameters."""


def save_model(model: DualStream, folder: Path, metadata: dict[str, Any] | None = None) -> None:
    """Writes `model.safetensors` and `model.json` into `folder`.

    What LoRA learned is added to the weights it stood beside: the saved model has none, and needs no peft.

    Args:
        model: to be saved.
        folder: made if missing.
        metadata: what it was trained on, for its readers (`trained_on`, `outside_data`).
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model = _without_lora(model)
    name, options = model.backbone.rebuild
    spec = model.spec.model_copy(update={"backbone": name, "backbone_options": options}, deep=True)
    if model.preprocessing is not None:
        spec.preprocessing, spec.front_end_options = model.preprocessing.rebuild
    if model.text_encoder is not None and spec.text is not None:
        spec.text.saved = model.text_encoder.saved_config()
    weights = folder / "model.safetensors"
    with atomic_file(weights) as temporary:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary)
    description = {
        "format": FORMAT,
        "sha256": sha256(weights),
        "about": {"trained_parameters": trained} | (metadata or {}),
        "model": spec.model_dump(mode="json"),
    }
    write_atomic(folder / "model.json", json.dumps(description, indent=1, ensure_ascii=False) + "\n")


def _without_lora(model: DualStream) -> DualStream:
    """The model itself, or a copy in which LoRA is merged into the towers."""
    spec = model.spec
    if spec.backbone_lora is None and (spec.text is None or spec.text.lora is None):
        return model
    plain = merged(model)
    plain.spec.backbone_lora = None
    if plain.spec.text is not None:
        plain.spec.text.lora = None
    return plain


def read_metadata(folder: Path) -> dict[str, Any]:
    """What `save_model` was told about the training.

    Raises:
        ModelError: no model there, or not one that this version reads.
    """
    metadata: dict[str, Any] = _describe(folder)["about"]
    return metadata


def read_spec(folder: Path) -> ModelSpec:
    """What the saved model is built from.

    Raises:
        ModelError: no model there, or not one that this version reads.
    """
    try:
        return ModelSpec.model_validate(_describe(folder)["model"])
    except (KeyError, ValidationError):
        raise ModelError(f"{folder / 'model.json'} does not describe a model of this version") from None


def parameter_counts(folder: Path) -> tuple[int, int]:
    """How many parameters of the saved model were trained, and how many frozen; no weights are read.

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
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if not name.startswith(("preprocessing.", "class_neighbors.")) and not name.endswith(
                    STATISTICS
                ):
                    counts[name.startswith(frozen)] += math.prod(file.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{weights} cannot be read: {error}") from None
    # Where it was not counted when saving, towers were trained whole or not at all.
    return (counts[False], counts[True]) if trained is None else (trained, sum(counts.values()) - trained)


def load_model(folder: Path) -> DualStream:
    """The model of a run folder, on the CPU, in evaluation mode.

    Raises:
        ModelError: missing, cut short or altered files; says which.
    """
    description, spec = _describe(folder), read_spec(folder)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{weights} is missing")
    if sha256(weights) != description.get("sha256"):
        raise ModelError(
            f"{weights} is damaged: its SHA-256 is not the one in model.json; train or copy it again"
        )
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise ModelError(f"{weights} is not a safetensors file: {error}") from None
    model = build_model(spec)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        what = f"lacks {missing[0]!r}" if missing else f"has {unexpected[0]!r} too many"
        raise ModelError(f"{weights} does not fit model.json: it {what}")
    model.metadata, model.home = description["about"], folder
    # Of what is done with the weights too: views and similarity change what images become.
    model.fingerprint = digest(description["sha256"], description["model"])
    return model.eval()


def fingerprint_of(model: DualStream) -> str:
    """A hash of what the model is built from and of all its weights, 16 hex digits."""
    told = hashlib.sha256(model.spec.model_dump_json().encode())
    for name, tensor in sorted(model.state_dict().items()):
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        told.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return told.hexdigest()[:16]


def load(name: str | Path) -> DualStream:
    """A model from a run folder, a Hugging Face hub id, or a published one.

    Published ones are `open_clip:ARCH/TAG`, `transformers:NAME` (both with their text towers, in the
    space they were trained for, where they have one) and `timm:NAME` (images alone).

    Raises:
        ModelError: nothing by that name; says where it was looked for.
    """
    if not isinstance(name, str | Path):
        raise ModelError(f"a model is named by a str or a Path; got {told(name)}")
    folder = Path(name)
    if folder.is_dir():
        return load_model(folder)
    if str(name).partition(":")[0] + ":" in PUBLISHED.names():
        return _load_published(str(name))
    # A path whose folder is there was meant as a path: a mistyped run is no reason to ask the hub.
    if (
        str(name).count("/") == 1
        and not folder.parent.is_dir()
        and not str(name).startswith((".", "/", "runs/"))
    ):
        return load_model(from_hub(str(name)))
    raise ModelError(
        f"no model {str(name)!r}: neither a run folder, nor a hub id (owner/name), nor open_clip:ARCH/TAG, "
        "transformers:NAME or timm:NAME"
    )


def _describe(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        if members := sorted(file.parent for file in folder.glob("*/model.json")):
            raise ModelError(f"{folder} holds {len(members)} models; name one of them, such as {members[0]}")
        raise ModelError(f"{folder} holds no model (no model.json); has its training finished?")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ModelError(f"{path} is not JSON; it may have been cut short") from None
    if description.get("format") != FORMAT:
        raise ModelError(f"{path} has format {description.get('format')!r}; this version reads {FORMAT}")
    return description


def _load_published(name: str) -> DualStream:
    """The towers of a published model, in the space they were trained for."""
    published: Published = PUBLISHED.get(name)()
    preprocessor = published.preprocessor
    pretrained = {"pretrained": True} if "pretrained" in BACKBONES.options(name).model_fields else {}
    spec = ModelSpec(
        backbone=name,
        backbone_options=pretrained,
        backbone_frozen=True,
        text=None if published.text is None else TextSpec(encoder=published.text, projection="none"),
        embedding_dim=None,
        image_size=preprocessor.image_size,
        channels=preprocessor.channels,
        resize=preprocessor.resize,
        center_crop=preprocessor.center_crop,
        interpolation=preprocessor.interpolation,
    )
    model = build_model(spec)
    seen = model.text_encoder is not None and model.text_encoder.seen_images
    model.spec.outside_data = model.backbone.pretrained or seen
    model.fingerprint = fingerprint_of(model)
    return model.eval()


def from_hub(name: str, **how: Any) -> Path:
    """The folder of a hub repository's model, from the cache or downloaded.

    Args:
        name: `owner/name`.
        how: as `huggingface_hub.snapshot_download` takes it.

    Raises:
        ModelError: it could not be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    print(f"fetching model.json and model.safetensors of {name} from the Hugging Face hub", file=sys.stderr)
    try:
        return Path(snapshot_download(name, allow_patterns=["model.json", "model.safetensors"], **how))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise ModelError(
            f"no folder {name!r} here, and it could not be had from the Hugging Face hub: {reason}"
        ) from None
