"""A learned temperature, stored as its logarithm and bounded (Radford et al. 2021, section 2.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vlfew.core.checks import check_positive
from vlfew.core.errors import ConfigError

MAX_SCALE = 100.0
"""Above this the softmax saturates and training becomes unstable."""


class LogitScale(nn.Module):
    """`1 / temperature`, learned or fixed.

    Args:
        temperature: at the start; 0.01 or more, since the scale is bounded by 100.
        learned: whether it is trained.

    Raises:
        ConfigError: temperature below 0.01.
    """

    def __init__(self, temperature: float, learned: bool) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        if temperature < 1 / MAX_SCALE:
            raise ConfigError(
                f"temperature is {temperature}; it must be {1 / MAX_SCALE:g} or more, since similarities are "
                f"multiplied by {MAX_SCALE:g} at most"
            )
        self.log = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learned)

    def forward(self) -> Tensor:
        return self.log.exp().clamp(max=MAX_SCALE)
