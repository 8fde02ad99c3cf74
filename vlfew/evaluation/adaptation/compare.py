"""Few-shot methods on a frozen model, compared on the same draws: accuracy against the number of shots."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import harmonic_mean
from typing import Any, Literal

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError, DataError, did_you_mean
from vlfew.core.files import write_atomic
from vlfew.core.progress import Progress
from vlfew.core.random import generator_at
from vlfew.evaluation.accuracy import hits
from vlfew.evaluation.adaptation.hyperparameters import (
    VAL,
    Choose,
    check_choice,
    choose_on_held_out_images,
    choose_on_val_classes,
    default_choice,
    held_out_temperature,
)
from vlfew.evaluation.adaptation.methods import Method, Problem, find_methods
from vlfew.evaluation.adaptation.support_sampling import (
    Draw,
    OnSmallClass,
    Sides,
    classes_with_enough,
    draw_classes,
    draw_images,
)
from vlfew.evaluation.calibration import expected_calibration_error
from vlfew.evaluation.class_prompts import class_words, prompts
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.results import mean_ci95

HELD = 4
"""At most so many images a class are held out to choose by, and no more than there are shots."""
CHOOSING = 2048
"""About so many images of other classes are asked in each draw to choose by."""
ENOUGH = 100
"""Other classes are drawn once for so many of them, or again, once a seed at most: few classes tell little."""


@dataclass(frozen=True)
class Figure:
    """A number for each seed.

    Attributes:
        mean: over repeats.
        ci95: half width of its 95% interval, by Student's t over repeats; None for a single seed.
        values: one a seed.
    """

    mean: float
    ci95: float | None
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        mean, ci95 = mean_ci95(values)
        return cls(mean, ci95 if len(values) > 1 else None, list(values))


@dataclass(frozen=True)
class Cell:
    """A method with so many shots.

    Attributes:
        method: its name.
        shots: images a class.
        accuracy: share of the queries that are right; of the base classes, where there are new ones.
        new: of the new classes; None where none were asked, or the method cannot answer without images.
        harmonic: harmonic mean of both.
        ece: expected calibration error of the softmax of the scores as they are.
        ece_scaled: after temperature scaling; None where nothing is chosen.
        temperatures: one a seed, by which scores were divided for that.
        options: all options of the method, one mapping a seed.
        seconds: to fit it and to score all queries, mean over repeats.
        choosing_seconds: to choose its options, in all.
    """

    method: str
    shots: int
    accuracy: Figure
    new: Figure | None
    harmonic: Figure | None
    ece: Figure
    ece_scaled: Figure | None
    temperatures: list[float]
    options: list[dict[str, Any]]
    seconds: float
    choosing_seconds: float


@dataclass(frozen=True)
class Adaptation:
    """A comparison, and all that its figures are worth nothing without.

    Attributes:
        data: name of the data source.
        data_fingerprint: which images exactly.
        split: whose classes are told apart.
        support_split: where their support comes from.
        classes: how many are told apart; where there are new ones, base and new together.
        queries: images that were asked, of each seed.
        shots: ascending.
        repeats: of the draws, the same for all methods.
        tune_on: `val`, by the classes of the validation split; `images`, by images of the tested
            classes that were held out; `fixed`, nothing is chosen.
        chosen_by: the same in words.
        base_to_new: whether methods saw images of half of the classes alone.
        methods: names, in order.
        left_out: methods that need words, where there are none.
        notes: what a reader must know.
        input_size: `[C, H, W]` that the image stream saw.
        templates: prompts that class names were put into.
        cells: method by method, shots ascending.
    """

    model: str
    command: str
    data: str
    data_fingerprint: str
    split: str
    support_split: str
    trained_on: str
    outside_data: bool
    input_size: list[int]
    classes: int
    queries: list[int]
    shots: list[int]
    repeats: list[int]
    tune_on: Choose
    chosen_by: str
    base_to_new: bool
    templates: list[str]
    descriptions: str
    methods: list[str]
    left_out: list[str]
    notes: list[str]
    cells: list[Cell]
    interval: str = "over repeats"
    seconds: float = 0.0

    def cell(self, method: str, shots: int) -> Cell:
        return next(c for c in self.cells if (c.method, c.shots) == (method, shots))

    @property
    def chance(self) -> float:
        """Accuracy of guessing; of the base classes, where there are new ones."""
        return 1 / (-(-self.classes // 2) if self.base_to_new else self.classes)


def write_adaptation(path: Path, found: Adaptation) -> None:
    """All of it as JSON; the file appears whole or not at all."""
    write_atomic(path, json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")


def adapt(
    context: EvaluationContext,
    *,
    methods: Sequence[str] = ("all",),
    split: str = "test",
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    repeats: int = 3,
    ways: int | Literal["all"] = "all",
    tune_on: Choose | None = None,
    base_to_new: bool = False,
    on_small_class: OnSmallClass = "error",
    templates: Sequence[str] = ("{}",),
    descriptions: Path | None = None,
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
    model: str = "",
    command: str = "",
    trained_on: str = "",
    outside_data: bool = False,
    notes: Sequence[str] = (),
) -> Adaptation:
    """Every method on the same classes, support and queries, with every number of shots and every seed.

    A seed draws the support once for all methods, and fewer shots are the first of more, so that
    differences are those of methods and of shots. Queries are all other images of the classes, the
    same for every number of shots.

    Args:
        context: the model and the data.
        methods: names; `all` for all that need no training of the model.
        split: whose classes are told apart. Where the data are split by image, the support comes
            from `train`.
        shots: ascending.
        repeats: how many draws, 0, 1, 2 ...
        ways: classes that a seed draws of the split, or `all`.
        tune_on: how options and temperature are chosen, see `Adaptation`; by default `val` where there is
            such a split of other classes, else `images`.
        base_to_new: methods see images of half of the classes, which the seed draws, and are asked
            about these and, by words alone, about the other half (Zhou et al. 2022, CoCoOp, section 4.1).
        on_small_class: what is done about classes with too few images.
        templates: prompts with `{}` for the name.
        descriptions: JSON file of class name to texts that are used instead of the name.
        fixed: by method, options that are not to be chosen, checked as `parse_fixed` does.
        model, command, trained_on, outside_data, notes: for the readers of the result.

    Raises:
        ConfigError: an unknown method or option, words where there are none, shots that do not ascend,
            fewer than one seed, nothing to choose by.
        DataError: no such split; a class with too few images, named.
        ModelError: what the model cannot do.
    """
    began, data, numbers = time.perf_counter(), context.data, list(shots)
    _check_numbers(numbers, repeats, ways, base_to_new)
    tune_on = tune_on or default_choice(data, split)
    check_choice(tune_on, data, split)
    no_words = why_no_words(context, descriptions)
    if base_to_new and no_words:
        raise ConfigError(f"new classes are asked about by words alone, and {no_words}")
    found, left_out = find_methods(methods, no_words, fixed or {})
    given = _check_fixed(found, fixed or {})
    # All draws come before the first image is encoded: what cannot be drawn is told at once.
    sides = Sides(data, "train" if data.split_by == "image" else split, split)
    _check_apart(sides)
    held = min(numbers[-1], HELD) if tune_on == "held-out-images" else 0
    drawn = _draw(sides, ways, numbers[-1], held, repeats, on_small_class)
    draws = [_halves(draw, seed) if base_to_new else (draw, None) for seed, draw in enumerate(drawn)]
    other_sides, others = Sides(data, VAL, VAL), []
    if tune_on == "val-classes":
        ways_of_others = len(draws[0][0].classes)
        times = min(repeats, -(-ENOUGH // ways_of_others))
        others = _draw(other_sides, ways_of_others, numbers[-1], 0, times, on_small_class, CHOOSING)
    words: dict[int, Tensor] = {}
    texts: dict[int, list[str]] = {}
    if base_to_new or any(method.needs_text for method in found):
        classes = torch.cat([draw.classes for draw in (*drawn, *others)]).unique()
        vectors = class_words(context, classes, templates, descriptions)
        words = dict(zip(classes.tolist(), vectors, strict=True))
        bare = prompts(data, classes, ("{}",), descriptions)
        texts = dict(zip(classes.tolist(), bare, strict=True))

    def problems(of: Sides, draws: Sequence[Draw], k: int) -> list[Problem]:
        said = [torch.stack([words[c] for c in d.classes.tolist()]) if words else None for d in draws]
        named = [[texts[c] for c in d.classes.tolist()] if texts else None for d in draws]
        told = zip(draws, said, named, strict=True)
        return [Problem(context, of, d, k, w, t, seed) for seed, (d, w, t) in enumerate(told)]

    # Before the first method, whose seconds would else hold the time of encoding.
    for name in {sides.support, sides.query, *([VAL] if others else [])}:
        context.bank(name)
    cells = []
    with Progress("adapting", len(found) * len(numbers), "cells") as bar:
        for method in found:
            for k in numbers:
                told = problems(sides, [base for base, _ in draws], k)
                new = problems(sides, [n for _, n in draws if n is not None], k)
                by = problems(other_sides, others, k)
                cells.append(_cell(method, told, new, by, tune_on, given.get(method.name, {})))
                bar.step(note=method.name)
    return Adaptation(
        model=model,
        command=command,
        data=data.name,
        data_fingerprint=data.fingerprint,
        split=split,
        support_split=sides.support,
        trained_on=trained_on,
        outside_data=outside_data,
        input_size=list(data.images.shape),
        classes=len(drawn[0].classes),
        queries=[len(draw.query) for draw in drawn],
        shots=numbers,
        repeats=list(range(repeats)),
        tune_on=tune_on,
        chosen_by=_chosen_by(tune_on, held, others),
        base_to_new=base_to_new,
        templates=list(templates),
        descriptions="" if descriptions is None else str(descriptions),
        methods=[method.name for method in found],
        left_out=left_out,
        notes=list(dict.fromkeys([*filter(None, data.note.split("; ")), *notes])),
        cells=cells,
        seconds=time.perf_counter() - began,
    )


def why_no_words(context: EvaluationContext, descriptions: Path | None) -> str:
    """Why classes have no words; "" where they have."""
    if not context.model.has_text:
        return "this model has no text stream (it was trained without words)"
    if not context.data.names_are_text and descriptions is None:
        return f"class names of {context.data.name} are codes, not words (such as {context.data.class_names[0]!r})"
    return ""


def _cell(
    method: Method,
    problems: Sequence[Problem],
    new: Sequence[Problem],
    others: Sequence[Problem],
    tune_on: Choose,
    fixed: Mapping[str, Any],
) -> Cell:
    """One method on the problems of all repeats, which have the same number of shots."""
    begin = time.perf_counter()
    temperatures: list[float] = []
    options = [method.options(fixed)] * len(problems)
    if tune_on == "val-classes":
        chosen, temperature = choose_on_val_classes(method, others, fixed)
        options, temperatures = [chosen] * len(problems), [temperature] * len(problems)
    elif tune_on == "held-out-images":
        options = [choose_on_held_out_images(method, problem, fixed) for problem in problems]
    choosing, seconds = time.perf_counter() - begin, 0.0

    accuracies, on_new, ece, scaled = [], [], [], []
    for seed, problem in enumerate(problems):
        begin = time.perf_counter()
        fitted = method.fit(problem, options[seed])
        scores, target = fitted.score(problem.queries, problem.draw.query), problem.draw.target
        seconds += time.perf_counter() - begin
        accuracies.append(float(hits(scores, target).double().mean()))
        if tune_on == "held-out-images":
            temperatures.append(held_out_temperature(fitted, problem))
        ece.append(expected_calibration_error(scores, target))
        scaled += [expected_calibration_error(scores, target, t) for t in temperatures[seed : seed + 1]]
        for unseen in new[seed : seed + 1]:
            if (carried := fitted.transfer(unseen)) is not None:
                scores = carried.score(unseen.queries, unseen.draw.query)
                on_new.append(float(hits(scores, unseen.draw.target).double().mean()))
    harmonic = [harmonic_mean(both) for both in zip(accuracies, on_new, strict=False)]  # none without new
    return Cell(
        method=method.name,
        shots=problems[0].shots,
        accuracy=Figure.of(accuracies),
        new=Figure.of(on_new) if on_new else None,
        harmonic=Figure.of(harmonic) if harmonic else None,
        ece=Figure.of(ece),
        ece_scaled=Figure.of(scaled) if scaled else None,
        temperatures=temperatures,
        options=options,
        seconds=seconds / len(problems),
        choosing_seconds=choosing,
    )


def _draw(
    sides: Sides,
    ways: int | Literal["all"],
    shots: int,
    held: int,
    repeats: int,
    on_small_class: OnSmallClass,
    most_queries: int | None = None,
) -> list[Draw]:
    """A draw for each seed. Of other classes to choose by there may be fewer than are told apart."""
    classes = classes_with_enough(sides, shots, held, on_small_class)
    wanted = len(classes) if ways == "all" else ways
    if wanted > len(classes) and most_queries is None:
        raise DataError(
            f"{sides.data.name}: split {sides.query!r} has {len(classes)} classes that can be told apart, and "
            f"ways is {wanted}"
        )
    return [
        draw_images(sides, draw_classes(classes, wanted, seed), shots, held, seed, most_queries)
        for seed in range(repeats)
    ]


def _halves(draw: Draw, seed: int) -> tuple[Draw, Draw]:
    """Base and new classes, drawn by the seed; where they are odd, one more is base."""
    order = torch.from_numpy(generator_at(seed, "adapt", "base").permutation(len(draw.classes)))
    half = -(-len(order) // 2)
    if len(order) - half < 2:
        raise DataError(
            f"{len(order)} classes have no two halves in which to tell classes apart: 4 are needed"
        )
    return draw.among(order[:half]), draw.among(order[half:])


def _check_numbers(shots: Sequence[int], repeats: int, ways: int | Literal["all"], base_to_new: bool) -> None:
    told = ",".join(map(str, shots))
    if not shots or shots[0] < 1 or any(b <= a for a, b in pairwise(shots)):
        raise ConfigError(f"shots must be numbers from 1 up that ascend, such as 1,2,4,8,16, not {told!r}")
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}; at least one draw is needed")
    least = 4 if base_to_new else 2
    if ways != "all" and ways < least:
        raise ConfigError(f"ways is {ways}; it must be at least {least}")


def _check_apart(sides: Sides) -> None:
    """Where splits part the images, what methods are told is no part of what they are asked."""
    if sides.data.split_by == "image" and not sides.apart:
        raise ConfigError(
            f"{sides.data.name} is split by image, and its support comes from {sides.support!r}; ask about "
            "another split"
        )


def _check_fixed(
    methods: Sequence[Method], fixed: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Mapping[str, Any]]:
    """The options that are not to be chosen, if their methods are compared."""
    known = [method.name for method in methods]
    for name in fixed:
        if name not in known:
            raise ConfigError(
                f"options are fixed for {name!r}, which is not compared{did_you_mean(name, known)}"
            )
    return fixed


def _chosen_by(tune_on: Choose, held: int, others: Sequence[Draw]) -> str:
    """In words, where options and temperatures come from."""
    if tune_on == "none":
        return "nothing was chosen: options are the methods' defaults"
    if tune_on == "held-out-images":
        return (
            f"options and temperature by further images of the tested classes, as many a class as shots, at most "
            f"{held}, that are no queries; for each seed"
        )
    return (
        f"options and temperature by {len(others[0].classes)} classes of the split {VAL!r}, with the same shots and "
        f"{len(others[0].query):,} queries in {'one draw' if len(others) == 1 else f'each of {len(others)} draws'}"
    )
