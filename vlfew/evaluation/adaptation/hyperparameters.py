"""How the options of a few-shot method and its temperature are tuned: never on the queries of the test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import topk_correct
from vlfew.evaluation.adaptation.methods import ComparedMethod, FittedMethod, Task
from vlfew.evaluation.adaptation.result import TuneOn
from vlfew.evaluation.calibration import fit_temperature

VAL = "val"
"""The split of other classes to tune on."""


def choose_tune_on(tune_on: TuneOn | None, data: LabeledImages, split: str) -> TuneOn:
    """What to tune on: by default other classes where there are some, otherwise further images of the evaluated ones.

    Raises:
        ConfigError: other classes are wanted, and the data are split by image, have no such split, or it is the one
            that is evaluated.
    """
    reason = ""
    if data.split_by != "class":
        reason = f"{data.name} is split by image: all splits have the same classes"
    elif VAL not in data.splits:
        reason = f"{data.name} has no split {VAL!r}"
    elif split == VAL:
        reason = f"{VAL!r} is the evaluated split itself"
    if reason and tune_on == "val-classes":
        raise ConfigError(
            f"options cannot be tuned on other classes: {reason}; use --tune-on held-out-images or none"
        )
    return tune_on or ("held-out-images" if reason else "val-classes")


def tune_on_val_classes(method: ComparedMethod, tasks: Sequence[Task]) -> tuple[dict[str, Any], float]:
    """Options and temperature for all repeats, tuned on other classes.

    The options with the best mean accuracy, the defaults where they are among those; the temperature by
    the predictions for all tasks together.

    Args:
        method: to be tuned.
        tasks: one per draw, all of N classes and with K shots.
    """
    target = torch.cat([task.draw.target for task in tasks])
    # Each draw has the same weight, whatever its number of queries.
    weight = torch.cat([torch.full((len(t.draw.target),), 1 / len(t.draw.target)) for t in tasks])
    best: tuple[float, dict[str, Any], Tensor] | None = None
    for options in method.candidates():
        logits = torch.cat([method.fit(t, options).logits(t.query_bank, t.draw.query) for t in tasks])
        accuracy = float((topk_correct(logits, target) * weight).sum())
        if best is None or accuracy > best[0] + 1e-9:
            best = (accuracy, options, logits)
    assert best is not None
    return best[1], fit_temperature(best[2], target)


def tune_on_held_out_images(method: ComparedMethod, task: Task) -> dict[str, Any]:
    """The options that are best on the held-out images, the defaults where they are among those."""
    candidates = method.candidates()
    if len(candidates) == 1:
        return candidates[0]
    positions, target = task.draw.validation(task.shots)
    correct = [
        int(topk_correct(method.fit(task, options).logits(task.support_bank, positions), target).sum())
        for options in candidates
    ]
    return candidates[correct.index(max(correct))]


def held_out_temperature(fitted: FittedMethod, task: Task) -> float:
    """The temperature fitted on the held-out images."""
    positions, target = task.draw.validation(task.shots)
    return fit_temperature(fitted.logits(task.support_bank, positions), target)
