"""`vlfew doctor`: what would be in the way of working with a data set, a model or a run, on one screen."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from vlfew.core.config_file import load_saved_config
from vlfew.core.errors import DataError, VlfewError, did_you_mean
from vlfew.core.plurals import counted, first_names
from vlfew.data.data_root import cache_dir
from vlfew.data.duplicates import WITHIN, duplicate_note, repeated_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.loading import load_data
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources import SOURCES
from vlfew.encoders import PACKAGED_BACKBONES, TEXT_ENCODERS
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_distinct_texts
from vlfew.evaluation.run_protocol import check_protocol
from vlfew.models.loading import is_published, load
from vlfew.training.checkpoint import latest_checkpoint, load_checkpoint
from vlfew.training.hardware import available_cores, resolve_precision
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.assemble import load_data_of
from vlfew.workflows.evaluation_data import DataOptions, parse_data_options

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

FREE_BYTES = 2**30
"""Less free space than this is a note."""


Level = Literal["ok", "note", "problem"]


class Finding(NamedTuple):
    """A line of the report.

    Attributes:
        level: `ok` states a fact; a `problem` stops some command or spoils its numbers; a `note` should be known.
        topic: what it is about, in a word or two.
        text: the fact, with the way out where there is one.
    """

    level: Level
    topic: str
    text: str


def examine(
    target: str | None = None, *, root: str | Path | None = None, data_options: DataOptions = ()
) -> list[Finding]:
    """What would be in the way; nothing is trained, written or downloaded.

    Args:
        target: a run folder, a model (as `vlfew.load` takes it), a data source by name, or a folder of images; None for
            the installation alone.
        root: folder of the data, for a source by name.
        data_options: of the source, as `data.key=value` strings or a mapping.

    Raises:
        VlfewError: there is nothing of that name, or unknown options.
    """
    findings = list(_installation())
    if target is None:
        return findings
    path = Path(target).expanduser()
    if (path / "config.yaml").is_file() or any((path / "checkpoints").glob("step-*.json")):
        return findings + list(_run(RunFolder(path)))
    source = _source_of(target, path)
    if source is None and not path.exists() and not set(target) & set("/:") and not is_published(target):
        known = [*SOURCES.names(), *PACKAGED_BACKBONES.names()]
        raise DataError(
            f"there is no run folder, data source, folder or model {target!r}{did_you_mean(target, known)}"
        )
    if source is None:
        return findings + list(_model(target)[0])
    if source != target:
        findings.append(Finding("ok", "source", f"taken as {source!r}" + f" ({path})" * (source == "folder")))
        root = None if source.startswith("hf:") else path
    preprocessor = ImagePreprocessor(image_size=84, channels=3)
    preprocessor, options = parse_data_options(source, preprocessor, data_options)

    def read() -> LabeledImages:
        return load_data(
            source,
            None if root is None else Path(root),
            replace(preprocessor, on_bad_image="skip"),
            **options,
        )

    return findings + list(_data(read, _default_text_encoder))


def _source_of(target: str, path: Path) -> str | None:
    """The data source that a target is; None for a model."""
    prefix = target.partition(":")[0] + ":"
    if is_published(target):
        return None
    if prefix in SOURCES.names() or (target in SOURCES.names() and not path.exists()):
        return target
    if path.is_file():
        return f"hf:{target}"
    if not path.is_dir() or (path / "model.json").is_file() or any(path.glob("*config.json")):
        return None
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")) or any(
        path.glob("*.parquet")
    ):
        return f"hf:{target}"
    tables = {"captions": "captions", "pairs": "pairs"}
    return next((name for stem, name in tables.items() if any(path.glob(f"{stem}.*"))), "folder")


def _installation() -> Iterator[Finding]:
    """Versions, device and cache."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("vlfew") or ()]
    except PackageNotFoundError:
        yield Finding("problem", "versions", "vlfew is not installed: pip install -e . in its folder")
        return
    shown, wrong = [], []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
        if requirement.name in ("torch", "torchvision", "transformers"):
            shown.append(f"{requirement.name} {found}")
    yield Finding(
        "ok", "versions", f"vlfew {version('vlfew')}, Python {platform.python_version()}, {', '.join(shown)}"
    )
    if wrong:
        yield Finding("problem", "versions", f"{'; '.join(wrong)}: pip install --upgrade vlfew")
    missing = [extra for extra, packages in _extras(wanted).items() if not all(map(_installed, packages))]
    if missing:
        yield Finding("ok", "extras", f"not installed: {', '.join(missing)} (pip install 'vlfew[EXTRA]')")
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    cores = counted(available_cores(), "CPU core")
    yield Finding(
        "ok",
        "device",
        f"{', '.join(devices) or 'no GPU'}, {cores}, precision auto is {resolve_precision('auto')!r}",
    )
    place = cache_dir()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Finding(
            "note",
            "cache",
            f"{place} cannot be written: images are decoded at every start (set XDG_CACHE_HOME)",
        )
        return
    free = shutil.disk_usage(existing).free
    yield Finding("note" if free < FREE_BYTES else "ok", "cache", f"{place}, {free / 2**30:,.1f} GiB free")


def _extras(wanted: Sequence[object]) -> dict[str, list[str]]:
    """Extra to the packages that it installs."""
    extras: dict[str, list[str]] = {}
    for requirement in wanted:
        marker = str(getattr(requirement, "marker", ""))
        if "extra ==" in marker:
            extra = marker.rpartition("==")[2].strip(" '\"")
            extras.setdefault(extra, []).append(str(getattr(requirement, "name", "")))
    return extras


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _default_text_encoder() -> TextEncoder:
    encoder: TextEncoder = TEXT_ENCODERS.get("minilm")()
    return encoder


def _data(
    read: Callable[[], LabeledImages],
    text_encoder: Callable[[], TextEncoder | None],
    fingerprint: str | None = None,
) -> Iterator[Finding]:
    """What `read` gives; unreadable images must be skipped by it."""
    try:
        data = read()
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
        sizes = [len(index) for index in data.by_class(split).values()]
        yield Finding(
            "ok",
            split,
            f"{counted(len(sizes), 'class')}, {counted(sum(sizes), 'image')}, "
            f"{min(sizes, default=0)} to {max(sizes, default=0)} per class",
        )
        if single := sizes.count(1):
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
        yield Finding(
            "problem",
            "unreadable",
            f"{counted(len(data.skipped), 'image')}: {first_names(data.skipped)}; repair or remove them, or skip them "
            "with data.on_bad_image=skip",
        )
    for repeated in repeated_images(data):
        yield Finding("note" if repeated.where == WITHIN else "problem", "duplicates", repeated.text)
    duplicates = duplicate_note(data)
    yield from (
        Finding("note", "data", note) for note in replace(data, skipped=()).notes if note != duplicates
    )
    yield from _texts(data, text_encoder)
    split = "test" if "test" in data.splits else next(iter(data.splits), "")
    yield from (_possible(protocol, split, data) for protocol in _protocols(data))


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


@contextmanager
def _offline() -> Iterator[None]:
    """Nothing is downloaded in the block: models are those at hand."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _model(name: str) -> tuple[list[Finding], DualStream | None]:
    """What there is to know about a model, and the model where it can be used."""
    try:
        with _offline():
            model = load(name)
    except VlfewError as error:
        return [Finding("problem", "model", line) for line in str(error).splitlines()], None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = f"{model.spec.channels} x {model.spec.image_size} x {model.spec.image_size}"
    found = [
        Finding(
            "ok",
            "model",
            f"{model.spec.backbone}, {parameters:,} parameters, input {size}, embeddings of {model.embedding_size}, "
            f"fingerprint {model.fingerprint}",
        )
    ]
    noise = torch.randint(0, 256, (2, *model.spec.preprocessor().shape), dtype=torch.uint8)
    encoded = {"images": lambda: model.encode_image(noise)}
    if model.has_text:
        encoded["texts"] = lambda: model.encode_text(["a photo of a cat", "a drawing of seven ships"])
    else:
        found.append(Finding("ok", "texts", "no text encoder: classes by images alone"))
    for what, encode in encoded.items():
        try:
            first, second = encode()
        except VlfewError as error:
            found.append(Finding("problem", what, str(error)))
            continue
        if not (first.isfinite().all() and second.isfinite().all()):
            found.append(Finding("problem", what, "embeddings are NaN or infinite: the weights are damaged"))
        elif torch.allclose(first, second, rtol=1e-4, atol=1e-7):
            found.append(Finding("problem", what, "two different ones have the same embedding"))
        else:
            found.append(Finding("ok", what, "two different ones have different embeddings"))
    return found, model


def _run(run: RunFolder) -> Iterator[Finding]:
    """A run folder: how far it is, its model and its data."""
    try:
        config, members = load_saved_config(run.config), run.members
    except VlfewError as error:
        yield from (Finding("problem", "run", line) for line in str(error).splitlines())
        return
    models = []
    for one in members or [run]:
        findings, model = _state_and_model(one)
        models.append(model)
        # Of a repeated run, what is not as it should be.
        yield from (finding for finding in findings if not members or finding.level != "ok")
    if members:
        states = Counter(member.state for member in members)
        by_state = ", ".join(f"{count} {state}" for state, count in states.items())
        level: Level = "ok" if set(states) == {"finished"} else "note"
        yield Finding(level, "run", f"{counted(len(members), 'run')}: {by_state}")
    reading = config.model_copy(
        update={"data": config.data.model_copy(update={"on_bad_image": "skip"}), "repeat": None}
    )
    trained = next((model for model in models if model is not None), None)
    fingerprint = None if members or trained is None else trained.metadata.get("data_fingerprint")
    yield from _data(
        lambda: load_data_of(reading), lambda: None if trained is None else trained.text_encoder, fingerprint
    )


def _state_and_model(run: RunFolder) -> tuple[list[Finding], DualStream | None]:
    """How far a run is, and its model."""
    resume, state = "the same command again goes on", run.state
    newest = latest_checkpoint(run.checkpoints)
    found = [
        Finding(
            "ok" if state == "finished" else "note",
            "run",
            {
                "finished": f"{run.path} is finished",
                "trained": f"{run.path} is trained, without results: {resume}",
                "unfinished": f"{run.path} is unfinished, with checkpoint {newest}: {resume}",
                "new": f"{run.path} has neither a model nor a checkpoint: the same command again starts anew",
            }[state],
        )
    ]
    if state in ("trained", "finished"):
        findings, model = _model(str(run.path))
        return found + findings, model
    try:
        if newest is not None:
            load_checkpoint(run.checkpoints, newest, {})
    except VlfewError as error:
        found.append(Finding("problem", "run", str(error)))
    return found, None
