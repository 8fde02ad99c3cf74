"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", "softmax", "none"]
"""`leaky_relu` has slope 0.1; `softmax` is over the channels, or over the features of a vector."""

_MODULES: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softmax": partial(nn.Softmax, dim=1),
    "none": nn.Identity,
}

_MONOTONIC: tuple[Activation, ...] = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "none")
"""Elementwise and non-decreasing: `max(f(x)) = f(max(x))`."""


def make_activation(name: Activation) -> nn.Module:
    """The activation of that name, for `[B, C, H, W]` and `[B, D]` alike."""
    return _MODULES[name]()


def activate_and_pool(name: Activation) -> list[nn.Module]:
    """An activation and 2x2 max-pooling, in the cheaper order where both give the same result.

    After pooling, a quarter of the activations is left to compute.
    """
    pool = nn.MaxPool2d(2)
    return [pool, make_activation(name)] if name in _MONOTONIC else [make_activation(name), pool]
