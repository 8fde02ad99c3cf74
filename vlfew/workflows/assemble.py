"""From a configuration to data, model and objective."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vlfew.classifiers import SIMILARITIES
from vlfew.core.config import Config, Loss
from vlfew.core.config_file import Part, load_config
from vlfew.core.errors import ConfigError, DataError, VlfewError, error_context
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources import SOURCES, load_data
from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS
from vlfew.evaluation import NEEDS_TEXT, PROTOCOLS
from vlfew.evaluation.evaluate import check_protocol
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.objective import Chosen, Objective, TermSpec, choose_terms, losses_with
from vlfew.models.build import build_model
from vlfew.models.dual_stream import DualStream
from vlfew.models.initialize_from import copy_weights
from vlfew.models.serialization import load
from vlfew.models.spec import ModelSpec, TextSpec

REFERRED_TO = 4096
"""About so many training images tell a model what it refers to."""
PARTS = {
    "data": Part(SOURCES, "name"),
    "image": Part(BACKBONES, "backbone"),
    "image.preprocessing": Part(PREPROCESSING, "name"),
    "text": Part(TEXT_ENCODERS, "encoder"),
    "similarity": Part(SIMILARITIES, "name"),
    "objective": Part(LOSSES, "loss"),
    "fallback_loss": Part(LOSSES, "loss"),
    "model_selection": Part(PROTOCOLS, "protocol"),
    "evaluate": Part(PROTOCOLS, "protocol"),
}

Precision = Literal["no", "bf16", "fp16"]


class Start(NamedTuple):
    """The weights that a training started from: what a reader must know, and their model and its fingerprint."""

    note: str
    metadata: dict[str, str]


def read_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """A configuration, checked against every registry.

    Raises:
        ConfigError: one line for each mistake.
    """
    return load_config(path, overrides, PARTS)


def load_configured_data(config: Config) -> LabeledImages:
    """The data set of a configuration; split by class, no class is in two of its splits."""
    d = config.data
    preprocessor = ImagePreprocessor(
        d.image_size, d.channels, d.resize, d.center_crop, d.on_bad_image, d.split_seed, d.interpolation
    )
    data = load_data(d.name, d.root, preprocessor, **d.options)
    if data.split_by == "class":
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if one in data.splits and other in data.splits:
                data.check_disjoint_classes(one, other)
    return data


def choose_objective(config: Config, data: LabeledImages) -> Chosen:
    """The terms of the objective; without words those of alignment are dropped.

    Raises:
        ConfigError: a term that asks for more than the batches or the image stream have to give.
    """

    def term(loss: Loss) -> TermSpec:
        return TermSpec(loss.loss, loss.weight, loss.options, loss.start, loss.stop)

    words = data.names_are_text and config.text.encoder is not None
    chosen = choose_terms([term(loss) for loss in config.objective], words, term(config.fallback_loss))
    if config.sampling.form == "annotated_pairs":
        why = "looks at classes, and sampling.annotated_pairs_per_batch tells only which pairs are the same"
        _check_terms(chosen, "pairs_only", why)
    if not config.image.share_weights:
        why = "compares images by one vector each, and image.share_weights=false gives two"
        _check_terms(chosen, "supports_unshared", why)
    return chosen


def _check_terms(chosen: Chosen, attribute: str, why: str) -> None:
    """Holds all terms to an attribute of theirs."""
    unable = [term.name for term in chosen.kept if not getattr(term.kind, attribute)]
    if unable:
        able = ", ".join(losses_with(attribute))
        raise ConfigError(f"objective: {unable[0]} {why}; losses that can be trained so: {able}")


def build_objective(chosen: Chosen, model: DualStream, data: LabeledImages) -> Objective:
    """The objective over the training classes, in the space of the model."""
    return Objective(chosen, LossContext(model.feature_spec, len(data.classes("train"))))


def build_configured_model(config: Config, objective: Chosen, train_classes: int) -> DualStream:
    """The model, with a text stream only when the objective trains one.

    Args:
        config: says of what parts.
        objective: what is trained.
        train_classes: how many classes there are to train on.

    Raises:
        VlfewError: terms, batches and similarity that do not go together; parts that cannot be built; a
            scorer asked for in `select` or `evaluate` that the model cannot have.
    """
    similarity = config.similarity.name
    classes, images = config.sampling.classes_per_batch, config.sampling.images_per_class
    for term in objective.kept:
        options = LOSSES.options(term.name)(**term.options).model_dump()
        term.kind.check_batches(options, classes, images)
        if term.kind.required_similarity not in (None, similarity):
            raise ConfigError(
                f"loss {term.name} trains similarity: {term.kind.required_similarity}, and similarity is {similarity}; "
                "change one of the two"
            )
    trains_similarity = any(term.kind.trains_similarity for term in objective.kept)
    learned = getattr(SIMILARITIES.get(similarity), "learned", False)
    if learned and not trains_similarity:
        able = [
            name
            for name in losses_with("trains_similarity")
            if LOSSES.get(name).required_similarity in (None, similarity)  # type: ignore[attr-defined]
        ]
        raise ConfigError(
            f"similarity: {similarity} is learned, and no term of the objective trains it; "
            f"add {' or '.join('{loss: ' + name + '}' for name in able)} to the objective"
        )
    if learned and config.image.tta != "none":
        raise ConfigError(
            f"similarity: {similarity} is learned on single views; leave image.tta at 'none', "
            "or take similarity: cosine"
        )
    for key, asked in (
        ("image.center_embeddings", config.image.center_embeddings),
        ("text.class_neighbors", config.text.class_neighbors),
    ):
        if asked and (similarity != "cosine" or not config.image.share_weights):
            raise ConfigError(
                f"{key} is for similarity: cosine and twins that share their weights; leave it out"
            )
    if config.embedding_dim is not None and not any(term.kind.needs_embedding for term in objective.kept):
        raise ConfigError(
            f"embedding_dim: {config.embedding_dim} is a projection that no term of the objective trains, since "
            "all look at maps; set embedding_dim: null"
        )
    text = None
    if objective.needs_text:
        t = config.text
        assert t.encoder is not None
        text = TextSpec(
            encoder=t.encoder,
            options=t.options,
            frozen=t.frozen,
            unfreeze_last=t.unfreeze_last,
            lora=t.lora,
            projection=t.projection,
            hidden=t.hidden,
            dropout=t.dropout,
            class_neighbors=t.class_neighbors,
            classes=0 if t.class_neighbors is None else train_classes,
        )
    preprocessing, tower = config.image.preprocessing, config.image.options
    if config.init_from is not None and "load" in BACKBONES.options(config.image.backbone).model_fields:
        # Published weights would be fetched only to be replaced.
        tower = tower | {"load": False}
    spec = ModelSpec(
        backbone=config.image.backbone,
        backbone_options=tower,
        backbone_frozen=config.image.frozen,
        backbone_unlocked=config.image.unfreeze_last,
        backbone_lora=config.image.lora,
        preprocessing=preprocessing.name if preprocessing is not None else None,
        front_end_options=preprocessing.options if preprocessing is not None else {},
        tta=config.image.tta,
        share_weights=config.image.share_weights,
        center_embeddings=config.image.center_embeddings,
        text=text,
        embedding_dim=config.embedding_dim,
        similarity=similarity,
        similarity_options=config.similarity.options,
        image_size=config.data.image_size,
        channels=config.data.channels,
        resize=config.data.resize,
        interpolation=config.data.interpolation,
        center_crop=config.data.center_crop,
    )
    torch.manual_seed(config.seed)  # initial weights
    model = build_model(spec)
    # A text tower that was trained with images, CLIP's for one, has seen them too.
    seen = model.text_encoder is not None and model.text_encoder.seen_images
    model.spec.outside_data = model.backbone.pretrained or seen
    _check_scorers(config, model)
    return model


def _check_scorers(config: Config, model: DualStream) -> None:
    """Finds out before training whether the model has all scorers that are asked for afterwards."""
    asked = {"model_selection": config.model_selection} | {
        f"evaluate.{n}": entry for n, entry in enumerate(config.evaluate)
    }
    for key, entry in asked.items():
        if entry is not None and "method" in entry.options:
            name = entry.options["method"]
            try:
                # What is only asked for has no say in the random numbers of what is trained.
                with torch.random.fork_rng(devices=()):
                    model.method(name)
            except VlfewError as error:
                raise ConfigError(f"{key}.method={name}: {error}") from None


def selection(config: Config, data: LabeledImages, has_text: bool) -> tuple[str, dict[str, Any]] | None:
    """Protocol and options by which checkpoints are compared; never on the test split.

    When none is configured, or the configured one needs words that the run has not: one-shot
    episodes, 5-way with 15 queries or as large as the validation split allows, among classes of two
    images or more; where there are none, retrieval by words. None where there is no validation split:
    there is nothing to choose by.

    Raises:
        ConfigError: another split than `val` was asked for; `select` or `training.patience` without a
            validation split.
    """
    chosen = config.model_selection
    if "val" not in data.splits:
        for key, given in (("model_selection", chosen), ("training.patience", config.training.patience)):
            if given is not None:
                raise ConfigError(
                    f"{key} goes by the validation split, and {data.name} as configured has none; "
                    "leave it out, and the weights of the last step are kept"
                )
        return None
    if chosen is not None and (has_text or chosen.protocol not in NEEDS_TEXT):
        options = {"split": "val"} | chosen.options
        if options["split"] != "val":
            raise ConfigError(
                f"model_selection.split must be 'val', not {options['split']!r}: models are not chosen on other splits"
            )
        checked = PROTOCOLS.checked(chosen.protocol, options)
        for key, allowed in (("calibrate", ("val",)), ("support_split", ("train", None))):
            if key in checked and checked[key] not in allowed:
                raise ConfigError(
                    f"model_selection.{key} must be {allowed[0]!r}, not {checked[key]!r}: the test split has no part in "
                    "choosing a model"
                )
        with error_context(f"model_selection: {chosen.protocol}"):
            check_protocol(chosen.protocol, options, data)
        return chosen.protocol, checked
    # Of classes with one image nothing can be asked.
    sizes = [n for n in (len(index) for index in data.by_class("val").values()) if n > 1]
    if len(sizes) < 2 and has_text and len(data.classes("val")) > 1:
        # Images that each have words of their own, as captions are.
        return "retrieval", PROTOCOLS.checked("retrieval", {"split": "val"})
    if len(sizes) < 2:
        with_words = ", or train with words (text.encoder)" if data.names_are_text else ""
        raise DataError(
            f"{data.name}: split 'val' has {len(sizes)} class(es) with two images or more, and choosing a "
            f"model takes at least 2; add classes or images{with_words}"
        )
    queries = max(1, min(15, min(sizes) - 1))
    options = {
        "split": "val",
        "ways": min(5, len(sizes)),
        "queries": queries,
        "episodes": 500,
        "on_small_class": "skip",
    }
    return "few-shot", PROTOCOLS.checked("few-shot", options)


def pixel_statistics(data: LabeledImages, split: str, sample: int = 4096) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel `[C]` (0..255) over up to `sample` evenly spread images."""
    index = _evenly(data.indices(split), sample)
    total = torch.zeros(data.images.shape[0], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in index.split(512):
        pixels = data.images.batch(part).double()
        total += pixels.mean(dim=(0, 2, 3)) * len(part)
        squares += pixels.square().mean(dim=(0, 2, 3)) * len(part)
    mean = total / len(index)
    std = (squares / len(index) - mean.square()).clamp(min=1.0).sqrt()
    return mean.float(), std.float()


def fit_preprocessing(model: DualStream, data: LabeledImages, split: str) -> None:
    """Shows the front end, if there is one to fit, evenly spread images of the split, normalized.

    Raises:
        ModelError: too few of them for what was asked.
    """
    if model.preprocessing is not None and model.preprocessing.sample:
        index = _evenly(data.indices(split), model.preprocessing.sample)
        model.preprocessing.fit(model.normalized(data.images.batch(part)) for part in index.split(512))


def model_to_initialize_from(name: str) -> DualStream:
    """The model that `init_from` names.

    Raises:
        ConfigError: there is none.
    """
    # The weights that are drawn for it, and then read, have no say in the random numbers of the training.
    with error_context(f"init_from={name}"), torch.random.fork_rng(devices=()):
        return load(name)


def begin(model: DualStream, data: LabeledImages, init_from: str | None) -> Start | None:
    """Gives a new model statistics of pixels and a fitted front end by the training images, or all that of another.

    Raises:
        ConfigError: no such model, or one of another network.
    """
    if init_from is None:
        model.set_pixel_statistics(*pixel_statistics(data, "train"))
        fit_preprocessing(model, data, "train")
        return None
    other = model_to_initialize_from(init_from)
    with error_context(f"init_from={init_from}"):
        anew = copy_weights(model, other)
    # It may have seen what the test split asks about.
    model.spec.outside_data = True
    told = f"starts from the weights of {init_from}, " + (
        f"trained on {other.metadata['trained_on']}" if "trained_on" in other.metadata else "as published"
    )
    for before in other.metadata.get("notes", []):
        told += f", which {before}" * before.startswith("starts from")
    metadata = {"model": init_from, "fingerprint": str(other.fingerprint)}
    return Start(f"{told}; anew: {', '.join(anew)}" if anew else told, metadata)


def fit_class_reference(model: DualStream, data: LabeledImages, split: str) -> None:
    """Shows a model that refers to the training classes (centered, or by neighbors) images and words of them all."""
    if not model.spec.center_embeddings and model.class_neighbors is None:
        return
    index, classes = data.indices(split), data.classes(split)
    labels = torch.searchsorted(classes, data.labels[index])
    kept = evenly_of_each(labels, max(1, REFERRED_TO // len(classes)))
    texts = [data.class_texts[c] for c in classes.tolist()]
    model.fit_reference((data.images.batch(part) for part in index[kept].split(512)), labels[kept], texts)


def evenly_of_each(labels: Tensor, most: int) -> Tensor:
    """Places in `labels [n]` of up to `most` evenly spread entries of each class."""
    return torch.cat([_evenly((labels == c).nonzero().flatten(), most) for c in labels.unique().tolist()])


def _evenly(index: Tensor, sample: int) -> Tensor:
    """Up to `sample` evenly spread entries of `index [n]`."""
    return index[torch.linspace(0, len(index) - 1, min(sample, len(index))).long()]


def choose_precision(wanted: str) -> Precision:
    """`auto` is bf16 where the hardware computes it, else none.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    cuda = torch.cuda.is_available()
    if wanted == "fp16" and not cuda:
        raise ConfigError("training.mixed_precision: fp16 needs a GPU; use bf16, auto or no")
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    fast = torch.cuda.is_bf16_supported() if cuda else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "no"


def use_all_cores() -> None:
    """Gives this process its share of the machine's cores.

    `accelerate launch` sets OMP_NUM_THREADS=1, under which training on a CPU crawls.
    """
    if torch.cuda.is_available():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
