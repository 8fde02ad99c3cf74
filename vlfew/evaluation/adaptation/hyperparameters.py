"""How the options of a few-shot method and its temperature are chosen: never by what is asked in the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import hits
from vlfew.evaluation.adaptation.methods import Fitted, Method, Problem
from vlfew.evaluation.calibration import fit_temperature

Choose = Literal["val-classes", "held-out-images", "none"]
VAL = "val"
"""The split whose classes are chosen by."""


def default_choice(data: LabeledImages, split: str) -> Choose:
    """By other classes where there are some for it, else by images of the classes themselves."""
    return "val-classes" if data.split_by == "class" and VAL in data.splits and split != VAL else "held-out-images"


def check_choice(tune_on: Choose, data: LabeledImages, split: str) -> None:
    """Refuses to choose by classes that are not others.

    Raises:
        ConfigError: the data are split by image, have no such split, or it is the one that is asked about.
    """
    if tune_on != "val-classes":
        return
    why = ""
    if data.split_by != "class":
        why = f"{data.name} is split by image: all splits have the same classes"
    elif VAL not in data.splits:
        why = f"{data.name} has no split {VAL!r}"
    elif split == VAL:
        why = f"these are the classes of {VAL!r} themselves"
    if why:
        raise ConfigError(
            f"options cannot be chosen by other classes: {why}; take --tune-on held-out-images or none"
        )


def choose_on_val_classes(
    method: Method, problems: Sequence[Problem], fixed: Mapping[str, Any]
) -> tuple[dict[str, Any], float]:
    """Options and temperature for all repeats, by draws of other classes.

    The options with the best mean accuracy, the defaults where they are among those; the temperature by
    the answers of all problems together.

    Args:
        method: to be set up.
        problems: one a draw, all of N classes and with K shots.
        fixed: options that are not to be chosen.
    """
    target = torch.cat([p.draw.target for p in problems])
    # Each draw has the same say, however many images it asks.
    weight = torch.cat([torch.full((len(p.draw.target),), 1 / len(p.draw.target)) for p in problems])
    best: tuple[float, dict[str, Any], Tensor] | None = None
    for options in method.candidates(fixed):
        fitted = ((p, method.fit(p, options)) for p in problems)
        scores = torch.cat([f.score(p.queries, p.draw.query) for p, f in fitted])
        accuracy = float((hits(scores, target) * weight).sum())
        if best is None or accuracy > best[0] + 1e-9:
            best = (accuracy, options, scores)
    assert best is not None
    return best[1], fit_temperature(best[2], target)


def choose_on_held_out_images(method: Method, problem: Problem, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Options that are best on the images held out, the defaults where they are among those."""
    candidates = method.candidates(fixed)
    if len(candidates) == 1:
        return candidates[0]
    positions, target = problem.draw.validation(problem.shots)
    right = [
        int(hits(method.fit(problem, options).score(problem.bank, positions), target).sum())
        for options in candidates
    ]
    return candidates[right.index(max(right))]


def held_out_temperature(fitted: Fitted, problem: Problem) -> float:
    """By the images held out."""
    positions, target = problem.draw.validation(problem.shots)
    return fit_temperature(fitted.score(problem.bank, positions), target)
