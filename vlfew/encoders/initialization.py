"""Initial weights by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

from vlfew.encoders.image.cbam import Cbam

Init = Literal["torch", "koch", "he", "xavier"]


def initialize(network: nn.Module, init: Init) -> None:
    """Initializes all convolutions and dense layers; norms and CBAM modules keep their own initialization.

    Args:
        network: each of its convolutions and dense layers must have a bias.
        init: `torch` keeps PyTorch's initialization. `koch`: convolutions N(0, 0.01), dense layers N(0, 0.2), biases
            N(0.5, 0.01), given as mean and standard deviation (Koch et al. 2015, section 3.2). `he`:
            N(0, sqrt(2 / fan_in)), biases 0 (He et al. 2015, equation 10). `xavier`: uniform within
            +- sqrt(6 / (fan_in + fan_out)), biases 0 (Glorot and Bengio 2010, equation 16).
    """
    if init == "torch":
        return
    attention = {layer for cbam in network.modules() if isinstance(cbam, Cbam) for layer in cbam.modules()}
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or layer in attention:
            continue
        assert layer.bias is not None
        if init == "koch":
            nn.init.normal_(layer.weight, 0.0, 0.01 if isinstance(layer, nn.Conv2d) else 0.2)
            nn.init.normal_(layer.bias, 0.5, 0.01)
        elif init == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        else:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
