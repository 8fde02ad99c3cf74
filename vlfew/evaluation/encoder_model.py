"""What evaluation needs of a model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.core.features import Features
from vlfew.encoders.text.base import TextEncoder
from vlfew.similarities.base import Similarity


class EncoderModel(Protocol):
    """A model that evaluation can use; `vlfew.DualStream` is one."""

    @property
    def has_text(self) -> bool:
        """Whether there is a text encoder."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """A hash of the weights; None while they may still change."""
        ...

    def image_features(self, pixels: Tensor) -> Features:
        """uint8 `[B, C, H, W]` to `embedding [B, D]`, and `map` where needed; on the CPU, no gradient."""
        ...

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts to `[T, D]`, in the space of the image embeddings; no gradient, not normalized."""
        ...

    def require_text_encoder(self) -> TextEncoder:
        """The text encoder, which says whether it can tell texts apart; a ModelError where there is none."""
        ...

    def few_shot_method(self, name: str = "default") -> FewShotMethod:
        """A new few-shot method by registry name; `default` is the one that the model was trained for."""
        ...

    def similarity_by_name(self, name: str = "default") -> Similarity:
        """A similarity by registry name; `default` is the one that the model was trained for."""
        ...
