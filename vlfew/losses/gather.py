"""Gathers features from all processes, with gradients.

Every process then computes the same loss over the whole batch. The backward pass sums the gradients of all processes,
and DistributedDataParallel averages those of the parameters: the result is exactly the gradient of a single process.
(`Accelerator.gather` has no gradient: each process would learn from its own share alone, scaled by 1 / processes, while
the printed loss would be the same.)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _AllGather(torch.autograd.Function):
    """Concatenates over processes; the backward pass sums gradients over processes and returns the own part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def all_gather(x: Tensor) -> Tensor:
    """`[B, ...]` of this process to `[P * B, ...]` of all P, in order of rank, with gradient."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    gathered: Tensor = _AllGather.apply(x)
    return gathered
