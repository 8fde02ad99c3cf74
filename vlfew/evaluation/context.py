"""What a protocol gets and gives: a model with a data set, and an accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.encoder_model import EncoderModel
from vlfew.evaluation.feature_bank import FeatureBank, encode_split
from vlfew.evaluation.statistics import mean_ci95


class ModelRequired(Exception):
    """A protocol that runs on data alone needs the model: the data and options have passed all checks."""


class EvaluationContext:
    """A model and a data set; every split is encoded once, however many protocols use it.

    A protocol validates its options and draws its episodes before it first uses the model, so that
    `check_protocol` can run it without one.

    Args:
        model: in evaluation mode; None to check options and data only.
        data: preprocessed to the model's input size.
        encode: `(model, data, split)` to the features of a split; `vlfew.evaluation.feature_cache` has one
            that caches them on disk.
    """

    def __init__(
        self,
        model: EncoderModel | None,
        data: LabeledImages,
        encode: Callable[[Any, LabeledImages, str], FeatureBank] = encode_split,
    ) -> None:
        self._model = model
        self.data = data
        self._encode = encode
        self._banks: dict[str, FeatureBank] = {}

    @property
    def model(self) -> Any:
        """The `EncoderModel`.

        Raises:
            ModelRequired: there is none.
        """
        if self._model is None:
            raise ModelRequired
        return self._model

    def bank(self, split: str) -> FeatureBank:
        """Features of all images of a split, computed at the first call."""
        if split not in self._banks:
            self._banks[split] = self._encode(self.model, self.data, split)
        return self._banks[split]


@dataclass
class ProtocolResult:
    """What a protocol measured.

    Attributes:
        accuracy: a fraction.
        ci95: half width of its 95% interval; None where a single episode gives none.
        episodes: number of episodes (or classes, trials, pairs ...) that the interval is over.
        details: fields that the protocol adds to the result (`ways, shots, queries, top5 ...`).
        per_episode: `[episodes]` float64 accuracies, where there are episodes.
        per_class: right answers and images of each class of the split, ascending, where every image is scored once.
    """

    accuracy: float
    ci95: float | None
    episodes: int
    details: dict[str, Any] = field(default_factory=dict)
    per_episode: np.ndarray | None = None
    per_class: tuple[list[int], list[int]] | None = None

    @classmethod
    def over_episodes(cls, accuracies: np.ndarray, details: dict[str, Any]) -> ProtocolResult:
        """The mean of the accuracies `[episodes]`, with its interval over them."""
        return cls(*mean_ci95(accuracies.tolist()), len(accuracies), details, accuracies)
