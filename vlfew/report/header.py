"""The head of the page: what was trained on what, and the figures in large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from vlfew.config import Config
from vlfew.evaluation.results import Result
from vlfew.evaluation.subject import Subject
from vlfew.report.curves import loss_terms, loss_weights
from vlfew.report.markup import Html, element
from vlfew.report.wording import chance, chance_percent, counted, duration, interval, percent, setting

SHOWN_NAMES = 5
"""Most names of skipped pictures that are listed."""


def draw_header(
    name: str,
    config: Config,
    about: dict[str, Any],
    log: Sequence[dict[str, Any]],
    subject: Subject,
    results: Sequence[Result],
) -> Html:
    """What was trained on what, and the figures in large.

    Args:
        name: of the run.
        config: of the run.
        about: what the saved model says about its training.
        log: entries of `log.jsonl`.
        subject: the model and the data.
        results: the figures.
    """
    notes = _notes(about, subject, results)
    facts = _facts(config, about, log, subject)
    pairs = (element("div", element("dt", label), element("dd", said)) for label, said in facts.items())
    return element(
        "header",
        element("p", "vlfew run", class_="kicker"),
        element("h1", name),
        element("p", _summary(config, about, subject), class_="lead"),
        element("div", *(_headline(r) for r in results), class_="headlines") if results else None,
        element("ul", *(element("li", note) for note in notes), class_="notes") if notes else None,
        element("dl", *pairs),
    )


def _summary(config: Config, about: dict[str, Any], subject: Subject) -> str:
    data = subject.data
    words = f" and a text encoder ({config.text.encoder})" if subject.model.has_text else " without words"
    trained = data.name
    if "train" in data.splits:
        pictures, classes = len(data.indices("train")), len(data.classes("train"))
        trained += f": {counted(pictures, 'picture')} of {counted(classes, 'class')}"
    took = f" for {duration(about['seconds'])}" if "seconds" in about else ""
    return f"An image stream ({config.image.stream}){words}, trained{took} on {trained}."


def _facts(
    config: Config, about: dict[str, Any], log: Sequence[dict[str, Any]], subject: Subject
) -> dict[str, str]:
    data, model = subject.data, subject.model
    c, h, w = data.images.shape
    facts = {
        "Trained on": str(about.get("trained_on", data.name)),
        "Data fingerprint": data.fingerprint,
        "Image stream": config.image.stream,
        "Text stream": "none",
    }
    if model.has_text:
        facts["Text stream"] = f"{config.text.encoder}{', frozen' if config.text.fixed else ''}"
    if isinstance(model, nn.Module):
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        # What LoRA trained is no longer told apart in the model that is left.
        trained, total = about.get("trained_parameters", trained), sum(p.numel() for p in model.parameters())
        facts["Parameters"] = f"{trained:,} trained, {total - trained:,} frozen"
    if terms := loss_terms(log):
        weights = loss_weights(config)
        facts["Objective"] = " + ".join(f"{weights.get(t, 1):g} × {t.replace('_', ' ')}" for t in terms)
    batch = config.sampling.batch_size
    facts["Length"] = f"{config.optim.steps:,} steps of {batch * config.training.accumulation:,} pictures"
    if "best_step" in about:
        facts["Checkpoint kept"] = f"step {about['best_step']:,}, chosen on validation"
    facts["Input"] = f"{w} × {h} pixels, {'grey' if c == 1 else 'colour'}"
    facts["Precision"] = str(about.get("precision", config.training.mixed_precision))
    if "seconds" in about:
        facts["Time"] = duration(about["seconds"])
    facts["Seed"] = str(config.seed)
    return facts


def _notes(about: dict[str, Any], subject: Subject, results: Sequence[Result]) -> list[str]:
    """What a reader must know, each thing once."""
    data = subject.data
    notes = [*data.note.split("; "), *about.get("notes", [])]
    if data.skipped:
        shown = ", ".join(data.skipped[:SHOWN_NAMES])
        more = f" and {len(data.skipped) - SHOWN_NAMES:,} more" if len(data.skipped) > SHOWN_NAMES else ""
        left_out = f"{counted(len(data.skipped), 'unreadable picture')} left out"
        notes.append(f"{left_out}: {shown}{more}")
    # A result's note joins those of the data and of the training.
    notes += [part for result in results for part in result.note.split("; ")]
    return list(dict.fromkeys(filter(None, notes)))


def _headline(result: Result) -> Html:
    guess = chance(result)
    bar = element(
        "div",
        element("i", style=f"width:{100 * result.accuracy:.2f}%"),
        element("s", style=f"left:{100 * guess:.2f}%") if guess is not None else None,
        class_="bar",
    )
    return element(
        "div",
        element("h3", result.protocol),
        element("p", setting(result), class_="setting"),
        element("p", percent(result.accuracy, 1), element("small", "%"), class_="number"),
        bar,
        element("p", f"{interval(result, 1)} · chance {chance_percent(result)}%", class_="aside"),
        class_="headline",
    )
