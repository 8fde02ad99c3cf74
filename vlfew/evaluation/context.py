"""What is evaluated: a model on a data set. Every split is encoded once, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.core.features import Features
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.feature_bank import FeatureBank, encode_split


class Model(Protocol):
    """What evaluation asks of a model; `vlfew.models.DualStream` is one."""

    @property
    def has_text(self) -> bool:
        """Whether there is a text stream."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """A hash of its weights; None while they may still change."""
        ...

    def encode_images(self, images: Tensor) -> Features:
        """uint8 `[B, C, H, W]` to what scorers need: `embedding [B, D]` float32 on the CPU, no gradient."""
        ...

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Texts to `[T, D]`, in the space of the images; float32, no gradient, not normalized."""
        ...

    def method(self, name: str) -> FewShotMethod:
        """A new scorer by registry name; `"default"` is the one that the model was trained for."""
        ...


@dataclass
class EvaluationContext:
    """A model, a data set and the features of one by the other.

    Attributes:
        model: the model, in evaluation mode.
        data: the data set, read at the model's input size.
        encode: `(model, data, split)` to the features of a split; `vlfew.evaluation.feature_cache` keeps them.
    """

    model: Model
    data: LabeledImages
    _banks: dict[str, FeatureBank] = field(default_factory=dict, repr=False)
    encode: Callable[[Any, LabeledImages, str], FeatureBank] = encode_split

    def bank(self, split: str) -> FeatureBank:
        """Features of all images of a split, computed at the first call."""
        if split not in self._banks:
            self._banks[split] = self.encode(self.model, self.data, split)
        return self._banks[split]


@dataclass
class ProtocolResult:
    """What a protocol found.

    Attributes:
        accuracy: a fraction.
        ci95: half width of its 95% interval.
        episodes: what the interval stands on.
        details: what the protocol adds to the result (`ways, shots, queries, top5 ...`).
        per_episode: `[episodes]` float64 accuracies, where there are episodes.
    """

    accuracy: float
    ci95: float
    episodes: int
    details: dict[str, Any] = field(default_factory=dict)
    per_episode: np.ndarray | None = None
