"""The optimizer; its learning rate and momentum are functions of the step alone."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from vlfew.core.config import OptimConfig
from vlfew.core.errors import ConfigError, did_you_mean

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
FUSED = ("adamw", "adam", "sgd")
"""Optimizers that have a fused implementation, used on GPUs."""


def parameter_groups(module: nn.Module, settings: OptimConfig) -> tuple[list[dict[str, Any]], list[str]]:
    """Trained parameters in groups of equal settings; vectors and scalars have no weight decay by default.

    Args:
        module: names of its parameters without their first part `model.` are matched by `settings.param_groups`.
        settings: of the optimizer.

    Returns:
        The groups, with `peak_lr`, `last_momentum` and `weight_decay`, and the parameters' names in the order of the
        groups.

    Raises:
        ConfigError: a glob of `settings.param_groups` matches no trained parameter.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    default = {"lr": settings.lr, "momentum": settings.momentum, "weight_decay": settings.weight_decay}
    own = {name: default | ({} if p.ndim > 1 else {"weight_decay": 0.0}) for name, p in trained.items()}
    for number, group in enumerate(settings.param_groups):
        values = group.model_dump(exclude={"match"}, exclude_none=True)
        matched = _matching(group.match, trained, f"optim.param_groups.{number}.match")
        # The weight decay of a whole layer is not meant for its bias; that of a glob over biases is.
        only_vectors = all(trained[name].ndim <= 1 for name in matched)
        for name in matched:
            decays = trained[name].ndim > 1 or only_vectors
            own[name] |= {key: value for key, value in values.items() if decays or key != "weight_decay"}
    # There is always a group with the default settings: torch rejects an optimizer without groups.
    groups: dict[tuple[float, ...], list[str]] = {tuple(default.values()): []}
    for name in sorted(trained, key=lambda name: trained[name].ndim <= 1):
        groups.setdefault(tuple(own[name].values()), []).append(name)
    listed = [
        {"params": [trained[n] for n in names], "peak_lr": lr, "last_momentum": last, "weight_decay": decay}
        for (lr, last, decay), names in groups.items()
    ]
    return listed, [name for names in groups.values() for name in names]


def _matching(glob: str, trained: dict[str, nn.Parameter], key: str) -> list[str]:
    """The names of `trained` that match, compared without `model.` in front."""
    short = {name: name.removeprefix("model.") for name in trained}
    matched = [name for name in trained if fnmatchcase(short[name], glob)]
    if not matched:
        # Suggestions include a glob for each module.
        parts = [name.split(".") for name in short.values()]
        modules = {".".join(p[:depth]) + ".*" for p in parts for depth in range(1, len(p))}
        raise ConfigError(
            f"{key}: no trained parameter matches {glob!r}{did_you_mean(glob, {*short.values(), *modules})}"
        )
    return matched


def make_optimizer(module: nn.Module, settings: OptimConfig) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimizer over a module's trained parameters, ready for step 0, and their names in its order.

    On a GPU it is fused where torch has such a version.

    Raises:
        ConfigError: a glob of `settings.param_groups` matches no trained parameter.
    """
    groups, names = parameter_groups(module, settings)
    on_gpu = bool(names) and all(p.is_cuda for group in groups for p in group["params"])
    options = {"fused": True} if on_gpu and settings.name in FUSED else {}
    make: Any = OPTIMIZERS[settings.name]
    optimizer: torch.optim.Optimizer = make(groups, lr=settings.lr, **options)
    set_rates(optimizer, settings, 0)
    return optimizer, names


def set_rates(optimizer: torch.optim.Optimizer, settings: OptimConfig, step: int) -> float:
    """Sets learning rate and momentum of each group for a step, counted from 0.

    Returns:
        The learning rate of parameters without one of their own.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step, group["peak_lr"])
        momentum = momentum_at(settings, step, group["last_momentum"])
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
    return learning_rate(settings, step, settings.lr)


def learning_rate(settings: OptimConfig, step: int, peak: float) -> float:
    """Linear warmup to `peak`, then the schedule: constant, in steps, or half a cosine to zero at `steps`."""
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    since = step - settings.warmup_steps
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "step":
        return float(peak * settings.gamma ** (since // settings.step_size))
    share = since / max(1, settings.steps - settings.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def momentum_at(settings: OptimConfig, step: int, last: float) -> float:
    """`last`, or linear from `momentum_start` at step 0 to `last` at the last step."""
    if settings.momentum_start is None:
        return last
    share = step / max(1, settings.steps - 1)
    return (1 - share) * settings.momentum_start + share * last
