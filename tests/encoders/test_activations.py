from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch.nn.functional import gelu, max_pool2d, softmax

from tests.compare import assert_close
from vlfew.core.config_file import load_config
from vlfew.core.errors import ConfigError
from vlfew.encoders import BACKBONES
from vlfew.encoders.activations import Activation, activate_and_pool, make_activation
from vlfew.workflows.assemble import PARTS

NAMES = get_args(Activation)

PLAIN: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(0.0, x),
    "leaky_relu": lambda x: x if x > 0 else 0.1 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "none": lambda x: x,
}


@pytest.mark.parametrize("name", PLAIN)
def test_one_number_at_a_time(name: Activation) -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    expected = torch.tensor([PLAIN[name](value) for value in x.tolist()], dtype=torch.float64)
    assert_close(make_activation(name)(x), expected)


def test_softmax_is_over_channels_and_over_features() -> None:
    softmax = make_activation("softmax")
    for shape in ((2, 5, 3, 4), (2, 5)):
        out = softmax(torch.randn(shape))
        assert_close(out.sum(1), torch.ones(out.sum(1).shape))
    assert {*PLAIN, "softmax"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_pooled_is_the_largest_activation(name: Activation) -> None:
    """Also where the activation rises, falls, or looks at other channels."""
    torch.manual_seed(0)
    maps = 3 * torch.randn(4, 6, 9, 8, dtype=torch.float64)
    out = maps
    for module in activate_and_pool(name):
        out = module(out)
    assert_close(out, max_pool2d(make_activation(name)(maps), 2))


@pytest.mark.parametrize(
    ("name", "function"), [("gelu", gelu), ("softmax", lambda x: softmax(x, 1)), ("relu", torch.relu)]
)
def test_conv4_pools_what_it_has_activated(
    name: str, function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    torch.manual_seed(0)
    conv4 = BACKBONES.get("conv4")(1, 16, widths=[6, 5], norm="none", activation=name, init="he").double()
    images = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    expected = images
    for block in conv4.blocks:
        expected = max_pool2d(function(block[0](expected)), 2)
    assert_close(conv4(images).embedding, expected.flatten(1))


@pytest.mark.parametrize("option", ["activation", "last_activation"])
def test_koch_uses_the_configured_activations(option: str) -> None:
    torch.manual_seed(0)
    koch = BACKBONES.get("koch")(1, 65, init="torch", **{option: "tanh"}).eval()
    features = koch(torch.randn(2, 1, 65, 65))
    lowest = {"activation": features.map, "last_activation": features.embedding}
    assert {name: bool(x.min() < 0) for name, x in lowest.items()} == {n: n == option for n in lowest}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            "{backbone: koch, activation: swish}",
            "'image.activation' of backbone 'koch': input should be 'relu',",
        ),
        (
            "{backbone: lenet, last_activation: 1}",
            "'image.last_activation' of backbone 'lenet': input should be",
        ),
        (
            "{backbone: conv4, init: normal}",
            "'image.init' of backbone 'conv4': input should be 'torch', 'koch',",
        ),
        ("{backbone: embed2d, activation: relu}", "unknown key 'image.activation' of backbone 'embed2d'"),
    ],
)
def test_unknown_names_are_one_line_errors(tmp_path: Path, image: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"objective: [{{loss: contrastive}}]\nimage: {image}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, parts=PARTS)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:2: {message}")
