"""The optimiser and its learning rate, a function of the step alone."""

from __future__ import annotations

import math

import torch
from torch import nn

from vlfew.config import Optim


def parameter_groups(module: nn.Module, weight_decay: float) -> tuple[list[dict[str, object]], list[str]]:
    """Trained parameters in two groups: matrices and kernels decay, vectors and scalars do not.

    Returns:
        The groups, and the parameters' names in the order of the groups.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [(name, p) for name, p in named if p.ndim > 1]
    others = [(name, p) for name, p in named if p.ndim <= 1]
    groups = [
        {"params": [p for _, p in decayed], "weight_decay": weight_decay},
        {"params": [p for _, p in others], "weight_decay": 0.0},
    ]
    return groups, [name for name, _ in decayed + others]


def make_optimizer(module: nn.Module, settings: Optim) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimiser over a module's trained parameters, and their names in its order."""
    groups, names = parameter_groups(module, settings.weight_decay)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum), names
    return torch.optim.AdamW(groups, lr=settings.lr), names


def learning_rate(settings: Optim, step: int) -> float:
    """Linear warm-up to `lr`, then half a cosine to zero at `steps`."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * share))
