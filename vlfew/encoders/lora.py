"""LoRA (Hu et al. 2022): low-rank adapters next to the layers of a frozen encoder."""

from __future__ import annotations

from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from vlfew.core.config import LoraConfig
from vlfew.core.errors import ModelError, did_you_mean
from vlfew.encoders.unfreeze import find_blocks

LAYERS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


def add_lora(encoder: nn.Module, settings: LoraConfig, option: str) -> list[nn.Module]:
    """Adds LoRA adapters to layers of the encoder's blocks, in place; only the adapters are trained.

    Args:
        encoder: a backbone or a text encoder.
        settings: see `vlfew.core.config.LoraConfig`.
        option: its key in the configuration, for messages (`image.lora`).

    Returns:
        The adapted layers, which have a training mode of their own.

    Raises:
        ModelError: peft is not installed, or no layer matches.
    """
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        raise ModelError(f"{option} needs peft, which is not installed (pip install 'vlfew[lora]')") from None
    in_blocks = {id(module) for block in find_blocks(encoder) for module in block.modules()}
    layers = [n for n, m in encoder.named_modules() if isinstance(m, LAYERS) and id(m) in in_blocks]
    # The output projection of an attention layer is adapted with it, not as a layer of its own.
    attentions = [n + "." for n in layers if isinstance(encoder.get_submodule(n), nn.MultiheadAttention)]
    layers = [n for n in layers if not n.startswith(tuple(attentions))]
    matching = [n for n in layers if fnmatchcase(n, settings.layers)]
    if not matching:
        raise ModelError(
            f"{option}.layers: no layer in the encoder's blocks matches "
            f"{settings.layers!r}{did_you_mean(settings.layers, layers)}"
        )
    encoder.requires_grad_(False)
    config = PeftConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=matching,
    )
    inject_adapter_in_model(config, encoder)
    return [module for module in encoder.modules() if isinstance(module, BaseTunerLayer)]


@torch.no_grad()
def merged(encoder: nn.Module) -> Any:
    """A copy of the encoder with its LoRA adapters added to the weights and removed."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    copy = deepcopy(encoder)
    adapted = [n for n, module in copy.named_modules() if isinstance(module, BaseTunerLayer)]
    for name in adapted:
        if name.startswith(tuple(outer + "." for outer in adapted)):
            continue  # merged with the attention layer it is a part of
        layer: Any = copy.get_submodule(name)
        if hasattr(
            layer, "unload_and_optionally_merge_module"
        ):  # of attentions, which have two adapted layers
            plain = layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        else:
            layer.merge()
            plain = layer.get_base_layer()
        copy.set_submodule(name, plain)
    return copy
