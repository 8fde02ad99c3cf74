"""LoRA (Hu et al. 2022): a frozen tower with a small product of two matrices learned beside its layers."""

from __future__ import annotations

from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from vlfew.core.config import Lora
from vlfew.core.errors import ModelError, did_you_mean
from vlfew.encoders.unfreeze import blocks_of

KINDS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


def add_lora(tower: nn.Module, settings: Lora, option: str) -> list[nn.Module]:
    """Puts LoRA beside layers of the tower's blocks, in place; it alone is trained.

    Args:
        tower: a backbone or a text encoder.
        settings: see `vlfew.core.config.Lora`.
        option: that asks for it, for messages (`image.lora`).

    Returns:
        The modules that were put in, which have a training mode of their own.

    Raises:
        ModelError: peft is not installed, or no layer matches.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        raise ModelError(f"{option} needs peft, which is not installed (pip install 'vlfew[lora]')") from None
    inside = {id(module) for block in blocks_of(tower) for module in block.modules()}
    layers = [n for n, m in tower.named_modules() if isinstance(m, KINDS) and id(m) in inside]
    # The output of an attention is a part of it, and not a layer beside it.
    whole = [n + "." for n in layers if isinstance(tower.get_submodule(n), nn.MultiheadAttention)]
    layers = [n for n in layers if not n.startswith(tuple(whole))]
    chosen = [n for n in layers if fnmatchcase(n, settings.layers)]
    if not chosen:
        raise ModelError(
            f"{option}.layers: no layer in the blocks of the tower matches "
            f"{settings.layers!r}{did_you_mean(settings.layers, layers)}"
        )
    tower.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=chosen,
    )
    inject_adapter_in_model(config, tower)
    return [module for module in tower.modules() if isinstance(module, BaseTunerLayer)]


@torch.no_grad()
def merged(tower: nn.Module) -> Any:
    """A copy of the tower in which what LoRA learned is added to the weights, as if it had never been there."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    copy = deepcopy(tower)
    added = [n for n, module in copy.named_modules() if isinstance(module, BaseTunerLayer)]
    for name in added:
        if name.startswith(tuple(outer + "." for outer in added)):
            continue  # goes with the attention that it is a part of
        layer: Any = copy.get_submodule(name)
        if hasattr(layer, "unload_and_optionally_merge_module"):  # of attentions, whose parts are two layers
            plain = layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        else:
            layer.merge()
            plain = layer.get_base_layer()
        copy.set_submodule(name, plain)
    return copy
