"""The optimizer; its learning rate and momentum are functions of the step alone."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from vlfew.core.config import Optim
from vlfew.core.errors import ConfigError, did_you_mean

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def parameter_groups(module: nn.Module, settings: Optim) -> tuple[list[dict[str, Any]], list[str]]:
    """Trained parameters in groups of equal settings; vectors and scalars do not decay unless asked to.

    Args:
        module: whose own part `model` is left out of the names that `settings.param_groups` match.
        settings: see `Optim` and `ParamGroup`.

    Returns:
        The groups, with `peak_lr`, `last_momentum` and `weight_decay`, and the parameters' names in the
        order of the groups.

    Raises:
        ConfigError: a glob of `settings.param_groups` that matches no trained parameter.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    usual = {"lr": settings.lr, "momentum": settings.momentum, "weight_decay": settings.weight_decay}
    own = {name: usual | ({} if p.ndim > 1 else {"weight_decay": 0.0}) for name, p in trained.items()}
    for number, layers in enumerate(settings.param_groups):
        given = layers.model_dump(exclude={"match"}, exclude_none=True)
        matched = _matching(layers.match, trained, f"optim.param_groups.{number}.match")
        # A whole layer's weight decay is not meant for its bias; that of a glob over biases is.
        only_vectors = all(trained[name].ndim <= 1 for name in matched)
        for name in matched:
            if trained[name].ndim <= 1 and not only_vectors:
                own[name] |= {key: value for key, value in given.items() if key != "weight_decay"}
            else:
                own[name] |= given
    # A group with the usual settings there always is: torch refuses an optimizer without any.
    groups: dict[tuple[float, ...], list[str]] = {tuple(usual.values()): []}
    for name in sorted(trained, key=lambda name: trained[name].ndim <= 1):
        groups.setdefault(tuple(own[name].values()), []).append(name)
    listed = [
        {"params": [trained[n] for n in names], "peak_lr": lr, "last_momentum": last, "weight_decay": decay}
        for (lr, last, decay), names in groups.items()
    ]
    return listed, [name for names in groups.values() for name in names]


def _matching(glob: str, trained: dict[str, nn.Parameter], key: str) -> list[str]:
    """The names of `trained` that match; `model.` in front of them is neither needed nor said."""
    shown = {name: name.removeprefix("model.") for name in trained}
    matched = [name for name, said in shown.items() if fnmatchcase(said, glob)]
    if not matched:
        # Globs that would do are offered beside the names: one for each module.
        parts = [said.split(".") for said in shown.values()]
        modules = {".".join(p[:depth]) + ".*" for p in parts for depth in range(1, len(p))}
        raise ConfigError(
            f"{key}: no trained parameter matches {glob!r}{did_you_mean(glob, {*shown.values(), *modules})}"
        )
    return matched


def make_optimizer(module: nn.Module, settings: Optim) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimizer over a module's trained parameters, ready for step 0, and their names in its order.

    Raises:
        ConfigError: a glob of `settings.param_groups` that matches no trained parameter.
    """
    groups, names = parameter_groups(module, settings)
    make: Any = OPTIMIZERS[settings.name]
    optimizer: torch.optim.Optimizer = make(groups, lr=settings.lr)
    set_rates(optimizer, settings, 0)
    return optimizer, names


def set_rates(optimizer: torch.optim.Optimizer, settings: Optim, step: int) -> float:
    """Gives each group its learning rate and momentum for a step, counted from 0.

    Returns:
        The learning rate of what has none of its own.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step, group["peak_lr"])
        momentum = momentum_at(settings, step, group["last_momentum"])
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
    return learning_rate(settings, step, settings.lr)


def learning_rate(settings: Optim, step: int, peak: float) -> float:
    """Linear warm-up to `peak`, then the schedule: half a cosine to zero at `steps`, say."""
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    since = step - settings.warmup_steps
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "step":
        return float(peak * settings.gamma ** (since // settings.step_size))
    share = since / max(1, settings.steps - settings.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def momentum_at(settings: Optim, step: int, last: float) -> float:
    """`last`, or on the line from `momentum_start` at step 0 to `last` at the last step."""
    if settings.momentum_start is None:
        return last
    share = step / max(1, settings.steps - 1)
    return (1 - share) * settings.momentum_start + share * last
