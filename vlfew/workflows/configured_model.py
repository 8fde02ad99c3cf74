"""The model of a configuration, and the weights it starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from vlfew.core.config import Config
from vlfew.core.errors import ConfigError, VlfewError, error_context
from vlfew.core.outside_data import NOT_KNOWN
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders import BACKBONES
from vlfew.encoders.pretraining_data import joined
from vlfew.losses.objective import SelectedLosses
from vlfew.models.dual_stream import DualStream
from vlfew.models.initialize_from import copy_weights
from vlfew.models.loading import load
from vlfew.models.spec import ModelSpec, TextSpec
from vlfew.training.data_statistics import fit_pixel_statistics, fit_preprocessing
from vlfew.workflows.objective import check_similarity


class Initialization(NamedTuple):
    """The trained weights that a model starts from.

    Attributes:
        note: which weights, and what they were trained on.
        model: name of the model.
        fingerprint: of its weights.
    """

    note: str
    model: str
    fingerprint: str


def build_model(config: Config, losses: SelectedLosses, classes_with_text: int) -> DualStream:
    """The model with its first weights; it has a text stream only if a loss trains it.

    Args:
        config: checked.
        losses: of the objective.
        classes_with_text: number of training classes that have text.

    Raises:
        VlfewError: objective, batches and similarity that do not go together; a component that cannot be built; a
            few-shot method in `model_selection` or `evaluate` that the model does not have.
    """
    check_similarity(config, losses)
    torch.manual_seed(config.seed)
    model = DualStream.from_spec(_spec(config, losses, classes_with_text))
    model.spec.outside_data = model.pretrained_on_images
    _check_methods(config, model)
    return model


def _spec(config: Config, losses: SelectedLosses, classes_with_text: int) -> ModelSpec:
    image, text, preprocessing = config.image, None, config.image.preprocessing
    if losses.needs_text:
        t = config.text
        same = {name: getattr(t, name) for name in type(t).model_fields}  # named alike in both
        num_classes = 0 if t.class_neighbors is None else classes_with_text
        text = TextSpec(**same, options=t.options, num_classes=num_classes)
    options = image.options
    if config.init_from is not None:  # published weights would be read only to be replaced
        known = BACKBONES.options(image.backbone).model_fields
        off = next((name for name in ("load", "pretrained") if name in known), None)
        options = options if off is None else options | {off: False}
    read = ("image_size", "channels", "resize", "interpolation", "center_crop", "align_faces")
    return ModelSpec(
        backbone=image.backbone,
        backbone_options=options,
        backbone_frozen=image.frozen,
        backbone_unfreeze_last=image.unfreeze_last,
        backbone_lora=image.lora,
        preprocessing=None if preprocessing is None else preprocessing.name,
        preprocessing_options={} if preprocessing is None else preprocessing.options,
        tta=image.tta,
        share_weights=image.share_weights,
        center_embeddings=image.center_embeddings,
        whiten_embeddings=image.whiten_embeddings,
        class_probability_weight=image.class_probability_weight,
        text=text,
        embedding_dim=config.embedding_dim,
        similarity=config.similarity.name,
        similarity_options=config.similarity.options,
        **{name: getattr(config.data, name) for name in read},
    )


def _check_methods(config: Config, model: DualStream) -> None:
    """Checks before training that the model has every few-shot method and similarity that evaluations use."""
    entries = {"model_selection": config.model_selection}
    entries |= {f"evaluate.{number}": entry for number, entry in enumerate(config.evaluate)}
    lookups: dict[str, Callable[[str], object]] = {
        "method": model.few_shot_method,
        "similarity": model.similarity_by_name,
    }
    for key, entry in entries.items():
        for option, lookup in lookups.items():
            if entry is not None and isinstance(name := entry.options.get(option), str):
                try:
                    with torch.random.fork_rng(devices=()):  # evaluations do not influence the training
                        lookup(name)
                except VlfewError as error:
                    raise ConfigError(f"{key}.{option}={name}: {error}") from None


def load_initial_model(name: str) -> DualStream:
    """The model whose weights a training starts from (`init_from`).

    Raises:
        ConfigError: there is no such model.
    """
    # Building it must not influence the random numbers of the training.
    with error_context(f"init_from={name}"), torch.random.fork_rng(devices=()):
        return load(name)


def initialize(model: DualStream, data: LabeledImages, init_from: str | None) -> Initialization | None:
    """Gives a new model what it takes from the training images, or the weights of another model.

    Raises:
        ConfigError: there is no such model, or it is another network.
    """
    model.fit_pretraining_classes()
    if init_from is None:
        fit_pixel_statistics(model, data)
        fit_preprocessing(model, data)
        return None
    other = load_initial_model(init_from)
    with error_context(f"init_from={init_from}"):
        new_parts = copy_weights(model, other)
    model.spec.outside_data = _outside_data(other, data)
    trained_on = other.metadata.get("trained_on")
    note = f"starts from the weights of {init_from}, {f'trained on {trained_on}' if trained_on else 'as published'}"
    for before in other.metadata.get("notes", []):
        if before.startswith("starts from"):
            note += f", which {before}"
    if new_parts:
        note += f"; new: {', '.join(new_parts)}"
    return Initialization(note, init_from, str(other.fingerprint))


def _outside_data(other: DualStream, data: LabeledImages) -> str:
    """What the weights of another model were trained on, other than the training split of these data."""
    trained_on, fingerprint = other.metadata.get("trained_on"), other.metadata.get("data_fingerprint")
    if trained_on is None:
        saved_without_record = other.path is not None and not other.spec.outside_data
        return NOT_KNOWN if saved_without_record else other.spec.outside_data
    same = (trained_on, fingerprint) == (f"{data.name}/train", data.fingerprint)
    return joined([other.spec.outside_data, "" if same else str(trained_on)])
