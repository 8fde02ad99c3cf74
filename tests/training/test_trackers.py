"""Experiment trackers: those that Accelerate knows, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking
from accelerate.utils import LoggerType

from vlfew.core.errors import ConfigError
from vlfew.training.trackers import check_trackers
from vlfew.workflows.train import train

FEW = [
    "optim.steps=4",
    "optim.warmup_steps=1",
    "training.eval_every=2",
    "training.log_every=1",
    "evaluate=[]",
]


def test_tensorboard_gets_the_curves(config: Path) -> None:
    run = train(config, [*FEW, "training.trackers=[tensorboard]"], config.parent)
    assert list(run.path.rglob("events.out.tfevents.*"))


class FakeTracker(tracking.GeneralTracker):
    """Remembers what it gets."""

    name = "mlflow"
    requires_logging_directory = False
    calls: dict[str, Any]

    def __init__(self, run_name: str, **options: Any) -> None:
        super().__init__()
        FakeTracker.calls = {"project": run_name, "logs": []}

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls["settings"] = values

    def log(self, values: dict[str, float], step: int | None, **_: Any) -> None:
        self.calls["logs"].append((step, values))

    def finish(self) -> None:
        self.calls["finished"] = self.calls.get("finished", 0) + 1


def test_a_tracker_gets_settings_losses_and_validations(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "mlflow", FakeTracker)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.MLFLOW])
    train(config, [*FEW, "training.trackers=[mlflow]"], config.parent)
    calls = FakeTracker.calls
    assert calls["settings"]["optim.steps"] == 4 and calls["settings"]["image.backbone"] == "conv4"
    losses = [step for step, values in calls["logs"] if "loss" in values and "lr" in values]
    validations = [step for step, values in calls["logs"] if "validation/few-shot" in values]
    assert (losses, validations, calls["finished"]) == ([1, 2, 3, 4], [2, 4], 1)


@pytest.mark.parametrize("name", sorted(tracking.LOGGER_TYPE_TO_CLASS))
def test_a_missing_package_is_one_line_with_the_install_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    with pytest.raises(
        ConfigError, match=rf"^training.trackers: {name} is not installed \(pip install .+\)$"
    ):
        check_trackers([name])


def test_an_unknown_tracker_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"unknown tracker 'wandbb'; did you mean 'wandb'\?"):
        check_trackers(["wandbb"])
