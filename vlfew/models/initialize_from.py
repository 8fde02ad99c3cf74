"""Initialization of a new model with the weights of a trained one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.models.build import backbone_options, preprocessing_options
from vlfew.models.dual_stream import DualStream

REQUIRED = ("preprocessing", "backbone", "right_backbone")
"""Parts that must be the same in both models: what images pass through."""
OPTIONAL = ("image_projection", "right_projection", "similarity")
"""Parts that keep their new weights where the models differ in them."""
TEXT = ("text_encoder", "text_projection")
"""Parts of the text stream; the projection is copied only along with the encoder."""
IGNORED_OPTIONS = frozenset(
    ["init", "dropout", "drop_rate", "dropblock_size", "pretrained", "load", "images", "width", "widths"]
)
"""Options that do not change the output of trained weights, or that the shapes of the weights show."""


@torch.no_grad()
def copy_weights(model: DualStream, trained: DualStream) -> list[str]:
    """Copies the weights and the pixel statistics of a trained model.

    The image stream must be the same network up to its projection. Projections, text stream and learned similarity are
    copied where they are the same in both.

    Returns:
        The parts that keep their new weights.

    Raises:
        ModelError: the image streams differ; names the first difference.
    """
    spec = trained.spec
    options = {"image.backbone": spec.backbone} | spec.backbone_options
    settings = ", ".join(f"{key}={value}" for key, value in options.items())
    described = (
        f"the trained model has {settings}, data.image_size={spec.image_size}, data.channels={spec.channels}"
    )
    if model.spec.channels != spec.channels:
        raise ModelError(
            f"the trained model takes images of {spec.channels} channel(s), not {model.spec.channels}; {described}"
        )
    for part in REQUIRED:
        found = _weight_difference(getattr(model, part), getattr(trained, part))
        if found := found or _option_difference(model, trained, part):
            raise ModelError(f"{part} differs from the trained model's: {found}; {described}")
    copied = [part for part in REQUIRED if getattr(model, part) is not None]
    copied += [
        p for p in OPTIONAL if not _weight_difference(getattr(model, p, None), getattr(trained, p, None))
    ]
    if _same_text_encoder(model, trained):
        copied.append("text_encoder")
        if not _weight_difference(model.text_projection, trained.text_projection):
            copied.append("text_projection")
    for part in copied:
        weights = _weights(getattr(trained, part, None))
        for name, weight in _weights(getattr(model, part, None)).items():
            weight.copy_(weights[name])
    model.pixel_mean.copy_(trained.pixel_mean)
    model.pixel_std.copy_(trained.pixel_std)
    return [p for p in (*OPTIONAL, *TEXT) if getattr(model, p, None) is not None and p not in copied]


def _same_text_encoder(model: DualStream, trained: DualStream) -> bool:
    one, other = model.text_encoder, trained.text_encoder
    if one is None or other is None or one.saved_config() != other.saved_config():
        return False
    return not _weight_difference(one, other)


def _option_difference(model: DualStream, trained: DualStream, part: str) -> str:
    """The first option in which parts of the same kind differ; empty where there is none."""
    if part == "right_backbone" or getattr(model.spec, part) != getattr(trained.spec, part):
        return ""
    options = backbone_options if part == "backbone" else preprocessing_options
    ours, theirs = (options(m.spec, getattr(m, part)) for m in (model, trained))
    for name in ours:
        if name not in IGNORED_OPTIONS and ours[name] != theirs.get(name):
            return f"{name} is {ours[name]} here and {theirs.get(name)} there"
    return ""


def _weight_difference(one: nn.Module | None, other: nn.Module | None) -> str:
    """The first difference between the weights of two modules, by name and shape; empty where there is none."""
    ours, theirs = _weights(one), _weights(other)
    for name in ours | theirs:
        if name not in theirs:
            return f"the trained model has no {name}"
        if name not in ours:
            return f"the trained model also has {name}"
        if ours[name].shape != theirs[name].shape:
            return f"{name} is {_shape(ours[name])} here and {_shape(theirs[name])} there"
    return ""


def _weights(module: nn.Module | None) -> dict[str, Tensor]:
    """The state dict under the names it has without LoRA, whose adapters start at zero."""
    if module is None:
        return {}
    return {n.replace(".base_layer.", "."): w for n, w in module.state_dict().items() if "lora_" not in n}


def _shape(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape)) or "a scalar"
