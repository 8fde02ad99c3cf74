"""Comparison of few-shot methods on a frozen model and the same draws: accuracy by number of shots."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import harmonic_mean
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError, DataError
from vlfew.core.progress import Progress
from vlfew.core.random import generator_at
from vlfew.evaluation.accuracy import topk_correct
from vlfew.evaluation.adaptation.hyperparameters import (
    VAL,
    choose_tune_on,
    held_out_temperature,
    tune_on_held_out_images,
    tune_on_val_classes,
)
from vlfew.evaluation.adaptation.methods import ALL, ComparedMethod, Task, find_methods
from vlfew.evaluation.adaptation.result import AdaptationResult, Estimate, MethodResult, TuneOn
from vlfew.evaluation.adaptation.support_sampling import (
    Draw,
    OnSmallClass,
    Splits,
    classes_with_enough,
    draw_classes,
    draw_images,
)
from vlfew.evaluation.calibration import expected_calibration_error
from vlfew.evaluation.class_prompts import NoTextError, check_described, class_embeddings, class_prompts
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.prompt_templates import ValidTemplates, as_list

MAX_HELD_OUT = 4
"""At most this many images per class are held out for tuning, and at most as many as there are shots."""
TUNING_QUERIES = 2048
"""About this many images of other classes are queries in each draw for tuning."""
TUNING_CLASSES = 100
"""Draws for tuning together have about this many classes, in at most one draw per repeat: few classes are noisy."""


def compare_methods(
    context: EvaluationContext,
    *,
    methods: Sequence[str] = (ALL,),
    split: str = "test",
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    repeats: int = 3,
    ways: int | Literal["all"] = "all",
    tune_on: Literal["val-classes", "held-out-images", "none"] | None = None,
    base_to_new: bool = False,
    on_small_class: Literal["error", "skip"] = "error",
    templates: Annotated[str | tuple[str, ...], ValidTemplates] = ("{}",),
    descriptions: Path | None = None,
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
) -> AdaptationResult:
    """Evaluates every method on the same classes, support and queries, for every number of shots and every repeat.

    A repeat draws the support once for all methods, and fewer shots are the first of more, so that
    differences are those of methods and of shots. Queries are all other images of the classes, the
    same for every number of shots. Where the data are split by image, the support comes from `train`.

    Args:
        context: the model and the data.
        methods: names of methods; `all` for all that need no training of the model.
        split: the split whose classes are evaluated.
        shots: numbers of support images per class, ascending.
        repeats: number of random draws of the support.
        ways: classes that each repeat draws from the split, or `all`.
        tune_on: what options and temperature are tuned on: `val-classes` (if possible), `held-out-images`, `none`.
        base_to_new: fit on half of the classes, and evaluate also the other half by text alone.
        on_small_class: `skip` leaves out classes with too few images; `error` stops.
        templates: prompts with `{}` for the class name, or sets of them (`one`, `seven`, `eighty`), averaged.
        descriptions: JSON file of class name to texts, used instead of prompts.
        fixed: by method, options that are not tuned.

    Raises:
        ConfigError: an unknown method or option, a method that needs text where there is none, shots that do not
            ascend, fewer than one repeat, nothing to tune on.
        DataError: no such split; images of several objects; a class with too few images, named.
        ModelError: what the model cannot do.
    """
    start, data, shots = time.perf_counter(), context.data, list(shots)
    data.require_labels("a comparison of few-shot methods")
    _check_counts(shots, repeats, ways, base_to_new)
    tune_on = choose_tune_on(tune_on, data, split)
    used = [split, *([VAL] if tune_on == "val-classes" else [])]
    no_text = why_no_text(context, used, descriptions)
    if base_to_new and no_text:
        raise ConfigError(f"new classes are evaluated by text alone, and {no_text}")
    compared, skipped = find_methods(methods, no_text, fixed or {})
    names = [method.name for method in compared]
    # Everything is drawn before the first image is encoded, so that mistakes are raised at once.
    splits = Splits(data, "train" if data.split_by == "image" else split, split)
    if data.split_by == "image" and not splits.differ:
        raise ConfigError(
            f"{data.name} is split by image, and its support comes from {splits.support!r}; evaluate another split"
        )
    held_out = min(shots[-1], MAX_HELD_OUT) if tune_on == "held-out-images" else 0
    draws = _draw(splits, ways, shots[-1], held_out, repeats, on_small_class)
    base_new = [_halves(draw, seed) if base_to_new else (draw, None) for seed, draw in enumerate(draws)]
    tuning_splits, tuning_draws = Splits(data, VAL, VAL), []
    if tune_on == "val-classes":
        base_classes = len(base_new[0][0].classes)
        times = min(repeats, -(-TUNING_CLASSES // base_classes))
        tuning_draws = _draw(tuning_splits, base_classes, shots[-1], 0, times, on_small_class, TUNING_QUERIES)
    embeddings: dict[int, Tensor] = {}
    texts: dict[int, list[str]] = {}
    if base_to_new or any(method.needs_text for method in compared):
        classes = torch.cat([draw.classes for draw in (*draws, *tuning_draws)]).unique()
        vectors = class_embeddings(context, classes, templates, descriptions)
        embeddings = dict(zip(classes.tolist(), vectors, strict=True))
        names_alone = class_prompts(data, classes, ("{}",), descriptions)
        texts = dict(zip(classes.tolist(), names_alone, strict=True))

    def tasks(of: Splits, some: Sequence[Draw], k: int) -> list[Task]:
        made = []
        for seed, draw in enumerate(some):
            numbers = draw.classes.tolist()
            vectors = torch.stack([embeddings[c] for c in numbers]) if embeddings else None
            made.append(
                Task(context, of, draw, k, vectors, [texts[c] for c in numbers] if texts else None, seed)
            )
        return made

    # Encoded before the first method, whose seconds would otherwise include it.
    for name in {splits.support, splits.query, *([VAL] if tuning_draws else [])}:
        context.bank(name)
    cells = []
    with Progress("adapting", len(compared) * len(shots), "cells") as bar:
        for method in compared:
            for k in shots:
                base = tasks(splits, [b for b, _ in base_new], k)
                new = tasks(splits, [n for _, n in base_new if n is not None], k)
                tuning = tasks(tuning_splits, tuning_draws, k)
                cells.append(_evaluate_method(method, base, new, tuning, tune_on))
                bar.step(note=method.name)
    return AdaptationResult(
        data=data.name,
        data_fingerprint=data.fingerprint,
        split=split,
        support_split=splits.support,
        input_size=list(data.images.shape),
        classes=len(draws[0].classes),
        queries=[len(draw.query) for draw in draws],
        shots=shots,
        repeats=repeats,
        tune_on=tune_on,
        tuning=_describe_tuning(tune_on, held_out, tuning_draws),
        base_to_new=base_to_new,
        templates=as_list(templates),
        descriptions="" if descriptions is None else str(descriptions),
        methods=names,
        skipped_methods=skipped,
        notes=list(dict.fromkeys(part for note in data.notes for part in note.split("; "))),
        cells=cells,
        seconds=time.perf_counter() - start,
    )


def why_no_text(context: EvaluationContext, splits: Sequence[str], descriptions: Path | None) -> str:
    """Why classes of these splits have no text; "" where they have."""
    if not context.model.has_text:
        return "this model has no text encoder (it was trained without text)"
    data = context.data
    codes = [name for split in splits if split in data.splits for name in data.without_text(split)]
    if codes and descriptions is None:
        try:
            check_described(
                data, codes, sum(len(data.classes(split)) for split in splits if split in data.splits)
            )
        except NoTextError as error:
            return str(error)
    return ""


def _evaluate_method(
    method: ComparedMethod,
    tasks: Sequence[Task],
    new: Sequence[Task],
    tuning: Sequence[Task],
    tune_on: TuneOn,
) -> MethodResult:
    """One method on the tasks of all repeats, which have the same number of shots."""
    start = time.perf_counter()
    temperatures: list[float] = []
    options = [method.options()] * len(tasks)
    if tune_on == "val-classes":
        chosen, temperature = tune_on_val_classes(method, tuning)
        options, temperatures = [chosen] * len(tasks), [temperature] * len(tasks)
    elif tune_on == "held-out-images":
        options = [tune_on_held_out_images(method, task) for task in tasks]
    tuning_seconds, seconds = time.perf_counter() - start, 0.0

    accuracies, new_accuracies, ece, scaled = [], [], [], []
    for repeat, task in enumerate(tasks):
        start = time.perf_counter()
        fitted = method.fit(task, options[repeat])
        logits, target = fitted.logits(task.query_bank, task.draw.query), task.draw.target
        seconds += time.perf_counter() - start
        accuracies.append(float(topk_correct(logits, target).double().mean()))
        if tune_on == "held-out-images":
            temperatures.append(held_out_temperature(fitted, task))
        ece.append(expected_calibration_error(logits, target))
        if temperatures:
            scaled.append(expected_calibration_error(logits, target, temperatures[repeat]))
        if new and (transferred := fitted.transfer(new[repeat])) is not None:
            logits = transferred.logits(new[repeat].query_bank, new[repeat].draw.query)
            new_accuracies.append(float(topk_correct(logits, new[repeat].draw.target).double().mean()))
    harmonic = [
        harmonic_mean(both) for both in zip(accuracies, new_accuracies, strict=False)
    ]  # none without new
    return MethodResult(
        method=method.name,
        shots=tasks[0].shots,
        accuracy=Estimate.of(accuracies),
        new=Estimate.of(new_accuracies) if new_accuracies else None,
        harmonic=Estimate.of(harmonic) if harmonic else None,
        ece=Estimate.of(ece),
        ece_scaled=Estimate.of(scaled) if scaled else None,
        temperatures=temperatures,
        options=options,
        seconds=seconds / len(tasks),
        tuning_seconds=tuning_seconds,
    )


def _draw(
    splits: Splits,
    ways: int | Literal["all"],
    shots: int,
    held_out: int,
    repeats: int,
    on_small_class: OnSmallClass,
    max_queries: int | None = None,
) -> list[Draw]:
    """A draw for each repeat. Classes for tuning (with `max_queries`) may be fewer than `ways`."""
    classes = classes_with_enough(splits, shots, held_out, on_small_class)
    wanted = len(classes) if ways == "all" else ways
    if wanted > len(classes) and max_queries is None:
        raise DataError(
            f"{splits.data.name}: split {splits.query!r} has {len(classes)} classes with enough images, and "
            f"ways is {wanted}"
        )
    return [
        draw_images(splits, draw_classes(classes, wanted, seed), shots, held_out, seed, max_queries)
        for seed in range(repeats)
    ]


def _halves(draw: Draw, seed: int) -> tuple[Draw, Draw]:
    """Base and new classes (Zhou et al. 2022, CoCoOp, section 4.1), drawn randomly; an odd one is base."""
    order = torch.from_numpy(generator_at(seed, "adapt", "base").permutation(len(draw.classes)))
    half = -(-len(order) // 2)
    if len(order) - half < 2:
        raise DataError(f"base-to-new takes at least 4 classes, two in each half, and there are {len(order)}")
    return draw.select_classes(order[:half]), draw.select_classes(order[half:])


def _check_counts(shots: Sequence[int], repeats: int, ways: int | Literal["all"], base_to_new: bool) -> None:
    if not shots or shots[0] < 1 or any(b <= a for a, b in pairwise(shots)):
        given = ",".join(map(str, shots))
        raise ConfigError(f"shots must be ascending numbers from 1 up, such as 1,2,4,8,16, not {given!r}")
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}; it must be at least 1")
    minimum = 4 if base_to_new else 2
    if ways != "all" and ways < minimum:
        raise ConfigError(f"ways is {ways}; it must be at least {minimum}")


def _describe_tuning(tune_on: TuneOn, held_out: int, tuning_draws: Sequence[Draw]) -> str:
    """In words, how options and temperatures were tuned."""
    if tune_on == "none":
        return "nothing was tuned: options are the methods' defaults"
    if tune_on == "held-out-images":
        return (
            "options and temperature were tuned on further images of the evaluated classes, as many per class as "
            f"shots, at most {held_out}, that are no queries; for each repeat"
        )
    return (
        f"options and temperature were tuned on {len(tuning_draws[0].classes)} classes of the split {VAL!r}, with the "
        f"same shots and {len(tuning_draws[0].query):,} queries in "
        f"{'one draw' if len(tuning_draws) == 1 else f'each of {len(tuning_draws)} draws'}"
    )
