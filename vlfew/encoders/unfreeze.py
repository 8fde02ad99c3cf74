"""Fine-tuning the last blocks of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError


def find_blocks(encoder: nn.Module) -> list[nn.Module]:
    """The sequence of blocks of the same kind that an encoder consists of, from input to output; [] without one.

    Blocks of a transformer, stages of a convolutional network. The search goes down to where most of the weights
    are, without those of embeddings, as a vocabulary can outweigh all layers.
    """
    parts = [part for part in encoder.children() if _parameter_count(part)]
    if not parts:
        return []
    kinds = [type(part) for part in parts]
    for kind in dict.fromkeys(kinds):
        blocks = [part for part in parts if type(part) is kind]
        several = len(blocks) > 1 or isinstance(encoder, nn.ModuleList)
        most = 2 * sum(map(_parameter_count, blocks)) > _parameter_count(encoder)
        if several and most and any(True for _ in blocks[0].children()):
            return blocks
    return find_blocks(max(parts, key=_parameter_count))


def _parameter_count(module: nn.Module) -> int:
    """Number of parameters, without those of embeddings."""
    embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in module.parameters() if id(p) not in embeddings)


def unfreeze_last_blocks(
    encoder: nn.Module, count: int, embed: Callable[[], Tensor], option: str
) -> list[nn.Module]:
    """Makes the last blocks trainable, and all layers after them.

    Which layers come after is measured: the gradient of an embedding is stopped before the first of these blocks, and
    the parameters that it reaches are trained.

    Args:
        encoder: in evaluation mode.
        count: number of blocks.
        embed: computes embeddings `[1, D]` with the encoder.
        option: its key in the configuration, for messages (`image.unfreeze_last`).

    Returns:
        The blocks.

    Raises:
        ModelError: the encoder has fewer.
    """
    blocks = find_blocks(encoder)
    if count > len(blocks):
        has = f"{len(blocks)} blocks" if blocks else "no sequence of similar blocks"
        raise ModelError(
            f"{option} is {count}, but the encoder has {has}; lower it, or train the whole encoder with frozen: false"
        )
    encoder.requires_grad_(True)
    stop = blocks[-count].register_forward_pre_hook(_detach, with_kwargs=True)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            gradients = torch.autograd.grad(embed().sum(), [*encoder.parameters()], allow_unused=True)
    finally:
        stop.remove()
    for parameter, gradient in zip(encoder.parameters(), gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return blocks[-count:]


def _detach(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return tuple(map(_detached, args)), {key: _detached(value) for key, value in kwargs.items()}


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
