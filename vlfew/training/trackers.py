"""Experiment trackers: every one that Accelerate knows, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accelerate import tracking

from vlfew.core.errors import ConfigError, did_you_mean
from vlfew.training.callbacks import Callback, Evaluation

if TYPE_CHECKING:
    from vlfew.training.trainer import Trainer

PACKAGES = {"tensorboard": "'vlfew[tensorboard]'", "comet_ml": "comet-ml"}
"""What to install for a tracker whose package is not called like it."""


def check_trackers(names: Sequence[str]) -> None:
    """Checks that trackers are known and installed.

    Raises:
        ConfigError: one is not; names the choices or the install command.
    """
    known = list(tracking.LOGGER_TYPE_TO_CLASS)
    available = {str(getattr(name, "value", name)) for name in tracking.get_available_trackers()}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"training.trackers: unknown tracker {name!r}{did_you_mean(name, known)}; choose among "
                f"{', '.join(sorted(known))}"
            )
        if name not in available:
            raise ConfigError(
                f"training.trackers: {name} is not installed (pip install {PACKAGES.get(name, name)})"
            )


class TrackerLogger(Callback):
    """Sends losses, learning rate and validation accuracies to the Accelerator's trackers.

    Args:
        name: of the run, shown by trackers that have a place for it.
        settings: hyperparameters of the run; values that are not plain numbers or text are left out.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.settings = {k: v for k, v in settings.items() if isinstance(v, str | int | float)}

    def on_train_begin(self, trainer: Trainer) -> None:
        options = {"wandb": {"name": self.name}, "swanlab": {"experiment_name": self.name}}
        trainer.accelerator.init_trackers("vlfew", self.settings, options)

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.should_log:
            trainer.accelerator.log(trainer.logs, step=trainer.state.step)

    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        logs = {f"validation/{evaluation.protocol}": evaluation.accuracy}
        trainer.accelerator.log(logs, step=trainer.state.step)

    def teardown(self, trainer: Trainer) -> None:
        for tracker in trainer.accelerator.trackers:
            tracker.finish()
        trainer.accelerator.trackers = []
