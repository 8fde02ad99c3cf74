"""What a data set is, and what would be in the way of using it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vlfew.core.errors import VlfewError
from vlfew.core.plurals import counted, first_names
from vlfew.core.recipes import list_recipes
from vlfew.data.duplicates import WITHIN, duplicate_note, repeated_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preview import count_objects
from vlfew.data.samplers import make_sampler
from vlfew.encoders import TEXT_ENCODERS
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_distinct_texts
from vlfew.evaluation.run_protocol import check_protocol
from vlfew.workflows.assemble import read_config
from vlfew.workflows.doctor.finding import Finding
from vlfew.workflows.evaluate import check_configured_evaluations
from vlfew.workflows.model_selection import choose_model_selection


def default_text_encoder() -> TextEncoder:
    """The text encoder of the recipes."""
    encoder: TextEncoder = TEXT_ENCODERS.get("minilm")()
    return encoder


def check_data(
    read: Callable[[Literal["error", "skip"]], LabeledImages],
    text_encoder: Callable[[], TextEncoder | None],
    *,
    fingerprint: str | None = None,
    trained: bool = False,
) -> Iterator[Finding]:
    """What is in the data set that `read` gives.

    Args:
        read: gives it, with what to do about images that cannot be read.
        text_encoder: gives what is to tell the texts of classes apart; None where there is none.
        fingerprint: of the data that a run was trained on.
        trained: whether there is a run that was trained on it.
    """
    try:
        data = read("skip")
    except VlfewError as error:
        yield from (Finding("problem", "data", line) for line in str(error).splitlines())
        return
    by = "class" if data.split_by == "class" else "image"
    yield Finding(
        "ok",
        "data",
        f"{data.name}: {counted(len(data.images), 'image')} of {counted(len(data.class_names), 'class')}, "
        f"split by {by}, fingerprint {data.fingerprint}",
    )
    for split in data.splits:
        if data.boxes is not None:
            yield Finding("ok", split, count_objects(data, split))
            continue
        sizes = [len(index) for index in data.by_class(split).values()]
        yield Finding(
            "ok",
            split,
            f"{counted(len(sizes), 'class')}, {counted(sum(sizes), 'image')}, "
            f"{min(sizes, default=0)} to {max(sizes, default=0)} per class",
        )
        if len(data.class_names) < len(data.images) and (single := sizes.count(1)):
            yield Finding(
                "note", split, f"{counted(single, 'class')} with one image: nothing is left as a query"
            )
    if fingerprint not in (None, data.fingerprint):
        yield Finding(
            "problem",
            "data",
            f"not what the run was trained on ({fingerprint}); train again under another name=...",
        )
    if data.skipped:
        yield Finding("problem", "unreadable", _why_unreadable(read, data.skipped))
    for repeated in repeated_images(data):
        yield Finding("note" if repeated.where in WITHIN else "problem", "duplicates", repeated.text)
    duplicates = duplicate_note(data)
    yield from (
        Finding("note", "data", note) for note in replace(data, skipped=()).notes if note != duplicates
    )
    yield from _texts(data, text_encoder)
    split = "test" if "test" in data.splits else next(iter(data.splits), "")
    if not trained and (recipe := {r.name: r.path for r in list_recipes()}.get(data.name)) is not None:
        yield _trainable(data.name, recipe, data)
    yield from (_possible(protocol, split, data) for protocol in _protocols(data))


def _why_unreadable(read: Callable[[Literal["error", "skip"]], LabeledImages], skipped: Sequence[str]) -> str:
    """How many images cannot be read, which, why the first of them cannot, and what to do."""
    try:
        read("error")
        why = ""
    except VlfewError as error:
        why = f" ({'; '.join(str(error).splitlines())})"
    return f"{counted(len(skipped), 'image')}{why}: {first_names(skipped)}"


def _trainable(name: str, recipe: Path, data: LabeledImages) -> Finding:
    """Whether the recipe of a data source can be trained on the data as it stands."""
    config = read_config(recipe, ())
    checks: list[Callable[[], object]] = [
        lambda: check_configured_evaluations(config, data),
        lambda: choose_model_selection(config, data, any(data.class_texts)),
        lambda: make_sampler(data, "train", config.sampling, config.seed),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except VlfewError as error:
            problems += str(error).splitlines()
    if problems:
        return Finding("note", "training", f"'vlfew train {name}' needs changes: {'; '.join(problems)}")
    return Finding("ok", "training", f"possible: vlfew train {name}, with its defaults")


def _texts(data: LabeledImages, text_encoder: Callable[[], TextEncoder | None]) -> Iterator[Finding]:
    """Whether the texts of all classes differ for the text encoder."""
    classes = [n for n, texts in enumerate(data.class_texts) if texts]
    if not classes:
        yield Finding(
            "ok", "texts", "class names are codes: text needs classes.yaml or descriptions=FILE.json"
        )
        return
    try:
        encoder = text_encoder()
    except VlfewError as error:
        yield Finding("note", "texts", f"not compared: {str(error).splitlines()[0]}")
        return
    if encoder is None:
        return
    try:
        check_distinct_texts(
            encoder, [data.class_names[n] for n in classes], [data.class_texts[n] for n in classes]
        )
    except VlfewError as error:
        yield Finding("problem", "texts", str(error))
        return
    yield Finding("ok", "texts", f"those of {counted(len(classes), 'class')} differ for the text encoder")


def _protocols(data: LabeledImages) -> list[str]:
    """The protocols that people use on such data."""
    if data.pairs:
        return ["verification"]
    if len(data.class_names) == len(data.images):
        return ["retrieval"]
    return ["few-shot", "zero-shot"] if any(data.class_texts) else ["few-shot"]


def _possible(protocol: str, split: str, data: LabeledImages) -> Finding:
    """Whether a protocol can be run with its defaults."""
    try:
        check_protocol(protocol, {"split": split}, data)
    except VlfewError as error:
        return Finding("note", protocol, f"not with its defaults: {str(error).splitlines()[0]}")
    return Finding("ok", protocol, f"possible on {split}, with its defaults")
