from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from vlfew.encoders import BACKBONES
from vlfew.encoders.initialization import Init, initialize

NETWORKS = ["koch", "lenet", "lrn", "embed2d", "conv4"]


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(24, 40, 7), nn.BatchNorm2d(40), nn.Linear(300, 200))


def inputs(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.weight[0].numel()


def outputs(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.weight.numel() // layer.weight.shape[1]


def test_torchs_own_stays() -> None:
    network = two_layers()
    initialize(network, "torch")
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), two_layers().parameters(), strict=True)
    )


@pytest.mark.parametrize("init", get_args(Init))
def test_norms_are_left_alone(init: Init) -> None:
    network = two_layers()
    initialize(network, init)
    assert torch.equal(network[1].weight, torch.ones(40)) and torch.equal(network[1].bias, torch.zeros(40))


def test_koch() -> None:
    network = two_layers()
    initialize(network, "koch")
    for layer, deviation in zip(layers(network), (0.01, 0.2), strict=True):
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.02 * deviation)
        assert layer.bias.mean().item() == pytest.approx(0.5, abs=0.005)
        assert layer.bias.std().item() == pytest.approx(0.01, rel=0.3)


def test_he() -> None:
    network = two_layers()
    initialize(network, "he")
    for layer in layers(network):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / inputs(layer)), rel=0.02)
        assert not layer.bias.any()


def test_xavier() -> None:
    network = two_layers()
    initialize(network, "xavier")
    for layer in layers(network):
        bound = math.sqrt(6 / (inputs(layer) + outputs(layer)))
        assert 0.99 * bound < layer.weight.abs().max().item() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_its_init(name: str) -> None:
    torch.manual_seed(0)
    for init, middle in (("koch", 0.5), ("he", 0.0)):
        for layer in layers(BACKBONES.get(name)(1, 65, init=init)):
            assert layer.bias.mean().item() == pytest.approx(middle, abs=0.02)


def test_the_usual_one_is_torchs_and_for_koch_the_papers() -> None:
    defaults = {name: BACKBONES.options(name).model_fields["init"].default for name in NETWORKS}
    assert defaults == dict.fromkeys(NETWORKS, "torch") | {"koch": "koch"}
