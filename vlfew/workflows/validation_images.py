"""The validation images of the run that a model comes from: people or classes that it did not learn from."""

from __future__ import annotations

from torch import Tensor

from vlfew.core.config_file import load_saved_config
from vlfew.core.console import log_note
from vlfew.core.errors import VlfewError
from vlfew.evaluation.feature_cache import cached_split_features
from vlfew.models.dual_stream import DualStream
from vlfew.workflows.assemble import load_data_of


def validation_images(model: DualStream) -> tuple[Tensor, Tensor] | None:
    """Embeddings `[V, D]` and labels `[V]` of the validation split; None where the model has none at hand."""
    config = None if model.path is None else model.path / "config.yaml"
    if config is None or not config.is_file():
        return None
    try:
        data = load_data_of(load_saved_config(config))
        if "val" not in data.splits:
            return None
        bank = cached_split_features(model, data, "val")
    except VlfewError as error:
        log_note(f"the validation images of {model.path} are not at hand: {error}")
        return None
    return bank.features.embedding, bank.labels
