"""Optimizers, schedules and settings of single layers, against plain formulas; and their exact resumption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from vlfew.core.config import OptimConfig
from vlfew.core.config_file import load_config
from vlfew.core.errors import ConfigError
from vlfew.training.optimizer import learning_rate, make_optimizer, momentum_at, set_rates
from vlfew.training.training_step import TrainingStep
from vlfew.workflows.train import train


def rates(settings: OptimConfig) -> list[float]:
    return [learning_rate(settings, step, settings.lr) for step in range(settings.steps)]


def test_cosine_warms_up_and_falls_to_nothing() -> None:
    found = rates(OptimConfig(lr=1.0, steps=100, warmup_steps=10))
    assert found[0] == pytest.approx(0.1) and found[9] == found[10] == 1.0
    assert found[55] == pytest.approx(0.5) and 0 < found[99] < 1e-3
    assert found[10:] == sorted(found[10:], reverse=True)


def test_constant_stays_after_the_warm_up() -> None:
    found = rates(OptimConfig(lr=0.3, steps=20, warmup_steps=3, schedule="constant"))
    assert found == pytest.approx([0.1, 0.2, *[0.3] * 18])


@settings(deadline=None)
@given(
    warmup_steps=st.integers(0, 30),
    decay=st.floats(0.1, 1),
    every=st.integers(1, 40),
    lr=st.floats(1e-4, 1),
)
def test_exponential_is_multiplied_after_so_many_steps(
    warmup_steps: int, decay: float, every: int, lr: float
) -> None:
    settings = OptimConfig(
        lr=lr, steps=100, warmup_steps=warmup_steps, schedule="step", gamma=decay, step_size=every
    )
    expected, rate = [lr * (step + 1) / warmup_steps for step in range(warmup_steps)], lr
    for since in range(100 - warmup_steps):
        if since and since % every == 0:
            rate *= decay
        expected.append(rate)
    assert rates(settings) == pytest.approx(expected, rel=1e-9)


def test_momentum_rises_on_a_line() -> None:
    settings = OptimConfig(name="sgd", steps=9, momentum_start=0.5)
    found = [momentum_at(settings, step, 0.9) for step in range(9)]
    assert found == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])
    assert found[0] == 0.5 and found[-1] == 0.9
    assert {momentum_at(OptimConfig(steps=9), step, 0.9) for step in range(9)} == {0.9}
    assert momentum_at(OptimConfig(steps=1, momentum_start=0.5), 0, 0.9) == 0.5


def one_weight(settings: OptimConfig, weight: float, gradients: Sequence[float]) -> list[float]:
    """A single weight after each step."""
    module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight, weight)
    optimizer, _ = make_optimizer(module, settings)
    found = []
    for step, gradient in enumerate(gradients):
        set_rates(optimizer, settings, step)
        module.weight.grad = torch.full_like(module.weight, gradient)
        optimizer.step()
        found.append(module.weight.item())
    return found


GRADIENTS = (0.5, -1.0, 2.0, 0.25, -0.5, 1.0)
SCHEDULED: dict[str, Any] = {
    "lr": 0.1,
    "warmup_steps": 2,
    "steps": len(GRADIENTS),
    "schedule": "step",
    "gamma": 0.5,
    "step_size": 2,
    "momentum_start": 0.5,
    "weight_decay": 0.2,
}
RATES = (0.05, 0.1, 0.1, 0.1, 0.05, 0.05)


def momenta(last: float) -> list[float]:
    return [0.5 + (last - 0.5) * step / 5 for step in range(6)]


def test_sgd_is_koch_s_rule() -> None:
    """The velocity keeps a share that rises; the L2 penalty is part of the gradient."""
    w, velocity, expected = 1.0, 0.0, []
    for gradient, rate, momentum in zip(GRADIENTS, RATES, momenta(0.9), strict=True):
        velocity = momentum * velocity + gradient + 0.2 * w
        w -= rate * velocity
        expected.append(w)
    assert one_weight(OptimConfig(name="sgd", **SCHEDULED), 1.0, GRADIENTS) == pytest.approx(expected)


@pytest.mark.parametrize("momentum", [0.8, 0.0])
def test_rmsprop(momentum: float) -> None:
    w, velocity, square, expected = 1.0, 0.0, 0.0, []
    for gradient, rate, share in zip(GRADIENTS, RATES, momenta(momentum), strict=True):
        gradient += 0.2 * w
        square = 0.99 * square + 0.01 * gradient**2
        velocity = share * velocity + gradient / (math.sqrt(square) + 1e-8)
        # Without momentum left, at the last step, what was gathered is not used.
        w -= rate * (velocity if share > 0 else gradient / (math.sqrt(square) + 1e-8))
        expected.append(w)
    found = one_weight(OptimConfig(name="rmsprop", momentum=momentum, **SCHEDULED), 1.0, GRADIENTS)
    assert found == pytest.approx(expected)


def test_rmsprop_has_no_momentum_unless_it_is_given() -> None:
    assert (
        OptimConfig(name="rmsprop").momentum == 0
        and OptimConfig(name="rmsprop", momentum=0.9).momentum == 0.9
    )
    assert {OptimConfig.model_validate({"name": name}).momentum for name in ("sgd", "adam", "adamw")} == {0.9}


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_its_two_ways_of_decaying(name: Any) -> None:
    settings = OptimConfig(name=name, **SCHEDULED | {"momentum_start": None})
    w, first, second, expected = 1.0, 0.0, 0.0, []
    for step, (gradient, rate) in enumerate(zip(GRADIENTS, RATES, strict=True), 1):
        if name == "adam":
            gradient += 0.2 * w
        else:
            w -= rate * 0.2 * w
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        w -= rate * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        expected.append(w)
    assert one_weight(settings, 1.0, GRADIENTS) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_momentum_of_adam_is_its_first_beta(name: Any) -> None:
    settings = OptimConfig(name=name, steps=5, momentum_start=0.5, momentum=0.7)
    optimizer, _ = make_optimizer(nn.Linear(2, 2), settings)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.5, 0.999)}
    set_rates(optimizer, settings, 4)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.7, 0.999)}


class Small(nn.Module):
    """Names like those of a model: convolutions, norms, biases, something frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
        self.model.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.objective = nn.ParameterDict({"scale": torch.zeros(())})


def settings_by_name(**optim: Any) -> dict[str, tuple[float, float, float]]:
    """`(lr, momentum, weight decay)` of each parameter."""
    module = Small()
    settings = OptimConfig.model_validate(
        {"name": "sgd", "lr": 0.1, "weight_decay": 0.01, "warmup_steps": 0} | optim
    )
    optimizer, names = make_optimizer(module, settings)
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    named: dict[str, Tensor] = dict(module.named_parameters())
    assert [id(named[name]) for name in names] == [id(p) for p in listed]  # checkpoints rely on it
    own = [
        (group["lr"], group["momentum"], group["weight_decay"])
        for group in optimizer.param_groups
        for _ in group["params"]
    ]
    return {name.removeprefix("model."): values for name, values in zip(names, own, strict=True)}


def test_without_layers_only_matrices_decay() -> None:
    own = settings_by_name()
    assert own == {
        "backbone.0.weight": (0.1, 0.9, 0.01),
        "backbone.2.weight": (0.1, 0.9, 0.01),
        "backbone.0.bias": (0.1, 0.9, 0.0),
        "backbone.1.weight": (0.1, 0.9, 0.0),
        "backbone.1.bias": (0.1, 0.9, 0.0),
        "backbone.2.bias": (0.1, 0.9, 0.0),
        "objective.scale": (0.1, 0.9, 0.0),
    }


def test_layers_have_their_own() -> None:
    layers = [
        {"match": "backbone.0.*", "lr": 0.5, "momentum": 0.3, "weight_decay": 0.2},
        {"match": "objective.*", "lr": 2.0},
    ]
    changed = {
        "backbone.0.weight": (0.5, 0.3, 0.2),
        "backbone.0.bias": (0.5, 0.3, 0.0),  # decay is not meant for it
        "objective.scale": (2.0, 0.9, 0.0),
    }
    assert settings_by_name(param_groups=layers) == settings_by_name() | changed


def test_the_last_group_wins() -> None:
    layers = [
        {"match": "*", "lr": 0.5, "momentum": 0.3},
        {"match": "backbone.2.*", "lr": 0.7},
        {"match": "backbone.[12].*", "momentum": 0.0},
    ]
    own = settings_by_name(param_groups=layers)
    assert own["backbone.0.weight"] == (0.5, 0.3, 0.01)
    assert own["backbone.1.weight"] == (0.5, 0.0, 0.0)
    assert own["backbone.2.weight"] == (0.7, 0.0, 0.01)
    assert settings_by_name(param_groups=layers[::-1])["backbone.2.weight"] == (0.5, 0.3, 0.01)


def test_biases_and_norms_decay_under_a_glob_of_their_own() -> None:
    own = settings_by_name(param_groups=[{"match": "*.bias", "weight_decay": 0.3}])
    decays = {name: decay for name, (_, _, decay) in own.items()}
    assert {name for name, decay in decays.items() if decay == 0.3} == {
        f"backbone.{i}.bias" for i in range(3)
    }
    assert decays["backbone.0.weight"] == 0.01 and decays["backbone.1.weight"] == 0


def test_layers_go_through_the_schedule_as_all_do() -> None:
    module = Small()
    layers = [{"match": "backbone.2.*", "lr": 0.5, "momentum": 0.6}]
    settings = OptimConfig.model_validate(
        {
            "name": "sgd",
            "lr": 0.1,
            "steps": 21,
            "warmup_steps": 0,
            "momentum_start": 0.5,
            "param_groups": layers,
        }
    )
    optimizer, _ = make_optimizer(module, settings)
    assert set_rates(optimizer, settings, 10) == pytest.approx(0.1 * (1 + math.cos(math.pi * 10 / 21)) / 2)
    found = {(round(g["lr"] / 0.1, 6), round(g["momentum"], 6)) for g in optimizer.param_groups}
    share = (1 + math.cos(math.pi * 10 / 21)) / 2
    assert found == {(round(share, 6), 0.7), (round(5 * share, 6), 0.55)}


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("backbone.3.*", "'backbone.3.*'; did you mean 'backbone.2.*'?"),
        ("backbone.0.wieght", "'backbone.0.wieght'; did you mean 'backbone.0.weight'?"),
        ("model.backbone.*", "'model.backbone.*'; did you mean 'backbone.*'?"),
        ("frozen.*", "'frozen.*'; known: backbone.*, backbone.0.*, backbone.0.bias, backbone.0.weight,"),
        ("Backbone.*", "'Backbone.*'; did you mean 'backbone.*'?"),
    ],
)
def test_a_glob_that_matches_nothing_is_an_error(glob: str, message: str) -> None:
    layers = [{"match": "*", "lr": 0.5}, {"match": glob, "lr": 0.5}]
    with pytest.raises(ConfigError) as caught:
        settings_by_name(param_groups=layers)
    (problem,) = caught.value.problems
    assert problem.startswith(f"optim.param_groups.1.match: no trained parameter matches {message}")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ("{name: adm}", "'optim.name': input should be 'adamw', 'adam', 'sgd' or 'rmsprop', got 'adm'"),
        ("{schedule: linear}", "'optim.schedule': input should be 'cosine', 'constant' or 'step'"),
        ("{gamma: 1.5}", "'optim.gamma': input should be less than or equal to 1"),
        ("{step_size: 0}", "'optim.step_size': input should be greater than or equal to 1"),
        ("{momentum: 1.0}", "'optim.momentum': input should be less than 1"),
        ("{momentum_start: 0}", "'optim.momentum_start': input should be greater than 0"),
        ("{param_groups: [{lr: 0.1}]}", "'optim.param_groups.0.match' must be given"),
        ("{param_groups: [{match: '*'}]}", "'optim.param_groups.0': give lr, momentum or weight_decay"),
        (
            "{param_groups: [{match: '*', lrr: 1}]}",
            "unknown key 'optim.param_groups.0.lrr'; did you mean 'lr'?",
        ),
        (
            "{param_groups: [{match: '*', lr: -1}]}",
            "'optim.param_groups.0.lr': input should be greater than 0",
        ),
    ],
)
def test_settings_out_of_bounds_are_an_error(tmp_path: Path, optim: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"objective: [{{loss: contrastive}}]\noptim: {optim}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert any(problem.startswith(f"{path}:2: {message}") for problem in caught.value.problems)


def test_a_glob_that_matches_nothing_stops_before_training(config: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"optim\.param_groups\.0\.match: .*did you mean 'backbone\.blocks\.\*'"
    ):
        train(config, ["optim.param_groups=[{match: 'backbone.block.*', lr: 0.1}]"], config.parent)
    assert not (config.parent / "small" / "checkpoints").exists()


SHORT = ["optim.steps=12", "training.eval_every=4", "training.save_every=4", "evaluate=[]"]
EXPONENTIAL = ["optim.schedule=step", "optim.gamma=0.9", "optim.step_size=3"]
LAYERS = "optim.param_groups=[{match: 'backbone.blocks.0.*', lr: 0.02, momentum: 0.5, weight_decay: 0.001}]"


@pytest.mark.parametrize(
    "overrides",
    [
        ["optim.name=sgd", "optim.momentum_start=0.5", LAYERS, *EXPONENTIAL],
        ["optim.name=rmsprop", "optim.lr=1e-3", "optim.momentum_start=0.5", "optim.schedule=constant"],
        ["optim.name=adam", "optim.weight_decay=1e-3", "optim.momentum_start=0.5", LAYERS],
    ],
    ids=lambda overrides: overrides[0],
)
def test_interrupted_and_resumed_gives_the_same_weights_to_the_bit(
    config: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config, [*SHORT, *overrides, "name=whole"], config.parent).path
    forward, calls = TrainingStep.forward, iter(range(1000))

    def cut_off(self: TrainingStep, *arguments: Any) -> Any:
        if next(calls) == 6:
            raise RuntimeError("cut off")
        return forward(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="cut off"):
        patch.setattr(TrainingStep, "forward", cut_off)
        train(config, [*SHORT, *overrides, "name=parts"], config.parent)
    parts = config.parent / "parts"
    assert sorted(p.stem for p in (parts / "checkpoints").glob("step-*.json")) == ["step-00000004"]
    train(config, [*SHORT, *overrides, "name=parts"], config.parent)
    for name in ("model.safetensors", "checkpoints/step-00000012.safetensors"):
        once, twice = load_file(whole / name), load_file(parts / name)
        assert once.keys() == twice.keys()
        assert all(torch.equal(once[key], twice[key]) for key in once)
    assert any(key.startswith("optimizer/") and key.endswith(("buffer", "exp_avg")) for key in once)
