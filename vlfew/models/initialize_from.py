"""Weights of a trained model for a new one to start from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.models.dual_stream import DualStream

WHOLE = ("preprocessing", "backbone", "right_backbone")
"""Parts that both models must have alike: what the images go through."""
OWN = ("image_projection", "right_projection", "similarity")
"""Parts that start anew where the models differ in them."""
LOOSE = ("init", "dropout", "drop_rate", "dropblock_size", "pretrained", "images")
"""Options that do not change what trained weights give."""
TEXT = ("text_encoder", "text_projection")
"""Parts of the text stream: the second is taken with the first alone."""


@torch.no_grad()
def copy_weights(model: DualStream, other: DualStream) -> list[str]:
    """Gives `model` the weights of `other`, part by part, and its statistics of pixels.

    Its image stream is taken up to the projection, and must be the same network. Projections, text stream and
    learned similarity are taken where they are the same, and else start anew.

    Returns:
        The names of the parts that start anew.

    Raises:
        ModelError: other networks; names the first layer in which they differ.
    """
    there = other.spec
    settings = ", ".join(
        f"{k}={v}" for k, v in ({"image.backbone": there.backbone} | there.backbone_options).items()
    )
    is_of = f"that one has {settings}, data.image_size={there.image_size}, data.channels={there.channels}"
    if model.spec.channels != there.channels:
        raise ModelError(
            f"its images have {there.channels} channel(s), and here are {model.spec.channels}; {is_of}"
        )
    for part in WHOLE:
        one, two = getattr(model, part), getattr(other, part)
        if why := _unlike(one, two) or _otherwise(one, two):
            raise ModelError(f"{part} is not the network of the model to start from: {why}; {is_of}")
    taken = [part for part in WHOLE if getattr(model, part) is not None]
    taken += [part for part in OWN if not _unlike(getattr(model, part, None), getattr(other, part, None))]
    if _same_encoder(model, other):
        taken.append("text_encoder")
        # A projection knows one encoder only.
        taken += ["text_projection"] * (not _unlike(model.text_projection, other.text_projection))
    for part in taken:
        given = _weights(getattr(other, part, None))
        for name, weight in _weights(getattr(model, part, None)).items():
            weight.copy_(given[name])
    # What the first layer was trained on.
    model.pixel_mean.copy_(other.pixel_mean)
    model.pixel_std.copy_(other.pixel_std)
    return [part for part in (*OWN, *TEXT) if getattr(model, part, None) is not None and part not in taken]


def _same_encoder(model: DualStream, other: DualStream) -> bool:
    """Whether both read texts by the same encoder."""
    one, two = model.text_encoder, other.text_encoder
    return (
        one is not None
        and two is not None
        and one.saved_config() == two.saved_config()
        and not _unlike(one, two)
    )


def _otherwise(one: nn.Module | None, two: nn.Module | None) -> str:
    """The first option in which networks of one kind and the same weights differ; empty where there is none."""
    (name, options), (kind, others) = (getattr(m, "rebuild", ("", {})) for m in (one, two))
    odd = [k for k in options if k not in LOOSE and options[k] != others.get(k)] if name == kind else []
    return f"{odd[0]} is {options[odd[0]]} here and {others.get(odd[0])} there" if odd else ""


def _unlike(one: nn.Module | None, other: nn.Module | None) -> str:
    """The first difference between the weights of two modules; empty where there is none."""
    a, b = _weights(one), _weights(other)
    for name in a | b:
        if name not in b:
            return f"that one has no {name}"
        if name not in a:
            return f"that one has {name} too"
        if a[name].shape != b[name].shape:
            return f"{name} is {_sides(a[name])} here and {_sides(b[name])} there"
    return ""


def _weights(module: nn.Module | None) -> dict[str, Tensor]:
    """What there is to copy, by the names it has without LoRA, which stands beside the layers and begins at nothing."""
    if module is None:
        return {}
    return {n.replace(".base_layer.", "."): w for n, w in module.state_dict().items() if "lora_" not in n}


def _sides(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape)) or "one number"
