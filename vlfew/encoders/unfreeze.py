"""Which weights of a pretrained tower are trained: none, all, or those of its last blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError


def blocks_of(tower: nn.Module) -> list[nn.Module]:
    """The row of like parts that a tower is made of, from its input to its output; empty where there is none.

    ParamGroup of a transformer, stages of a convolutional network. It is looked for where most of the weights
    are; those of embeddings do not count, as a vocabulary can outweigh all layers.
    """
    parts = [part for part in tower.children() if _weight(part)]
    if not parts:
        return []
    kinds = [type(part) for part in parts]
    for kind in dict.fromkeys(kinds):
        row = [part for part in parts if type(part) is kind]
        many = len(row) > 1 or isinstance(tower, nn.ModuleList)
        if many and 2 * sum(map(_weight, row)) > _weight(tower) and any(True for _ in row[0].children()):
            return row
    return blocks_of(max(parts, key=_weight))


def _weight(module: nn.Module) -> int:
    """Parameters, without those of embeddings."""
    left_out = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in module.parameters() if id(p) not in left_out)


def unlock(tower: nn.Module, count: int, embed: Callable[[], Tensor], option: str) -> list[nn.Module]:
    """Sets which parameters are trained: those of the last blocks and of all that comes after them.

    What comes after is found out rather than guessed: the gradient of an embedding is stopped before the
    first of these blocks, and the parameters that it reaches are theirs.

    Args:
        tower: in evaluation mode.
        count: of blocks.
        embed: gives embeddings `[1, D]` by the tower.
        option: that asks for it, for messages (`image.unfreeze_last`).

    Returns:
        The blocks.

    Raises:
        ModelError: the tower has fewer.
    """
    blocks = blocks_of(tower)
    if count > len(blocks):
        has = f"{len(blocks)} blocks" if blocks else "no row of like blocks"
        raise ModelError(f"{option} is {count}, and the tower has {has}; lower it, or train the whole tower")
    tower.requires_grad_(True)
    stop = blocks[-count].register_forward_pre_hook(_detached, with_kwargs=True)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            reached = torch.autograd.grad(embed().sum(), [*tower.parameters()], allow_unused=True)
    finally:
        stop.remove()
    for parameter, gradient in zip(tower.parameters(), reached, strict=True):
        parameter.requires_grad_(gradient is not None)
    return blocks[-count:]


def _detached(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def cut(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    return tuple(cut(value) for value in args), {key: cut(value) for key, value in kwargs.items()}
