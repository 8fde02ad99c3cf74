"""Embeddings of texts that were encoded before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlfew.encoders.text.base import TextEncoder

MAX_TEXTS = 50_000
"""Largest number of cached texts: 75 MB at 384 dimensions."""


class TextCache:
    """Encodes texts with an encoder whose weights stay fixed, each text once; embeddings are stored on the CPU.

    Args:
        encoder: of texts; None for a model without.
        encode: gives the encoder's embeddings `[T, D]` of T texts that are not stored.
    """

    def __init__(self, encoder: TextEncoder | None, encode: Callable[[Sequence[str]], Tensor]) -> None:
        self._encoder, self._encode = encoder, encode
        self._embeddings: dict[str, Tensor] = {}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embeddings `[T, D]` of T texts."""
        assert self._encoder is not None
        if len(self._embeddings) + len(texts) > MAX_TEXTS:
            self._embeddings.clear()
        new = list(dict.fromkeys(text for text in texts if text not in self._embeddings))
        if new:
            self._embeddings.update(zip(new, self._encode(new).cpu(), strict=True))
        stored = [self._embeddings[text] for text in texts]
        return torch.stack(stored) if stored else torch.empty(0, self._encoder.dim)

    def clear(self) -> None:
        """Forgets all texts, as the encoder has changed."""
        self._embeddings.clear()
