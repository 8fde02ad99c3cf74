"""The interface of text encoders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.features import Features
from vlfew.core.progress import progress
from vlfew.core.registry import Registry

_SAVED = Registry(
    "saved text encoder",
    {
        "huggingface": "vlfew.encoders.text.transformers_models:from_saved",
        "open_clip": "vlfew.encoders.text.open_clip_models:from_saved",
    },
)
"""Called with a `TextEncoder.saved_config`, by its `kind`."""


class TextEncoder(nn.Module):
    """A pretrained text encoder with its tokenizer.

    Attributes:
        dim: width D of the embedding.
        pretrained_on_images: what images the weights were trained with, by name, as CLIP's were, so that "unseen"
            classes may have been seen; empty for an encoder of text alone.
    """

    dim: int
    pretrained_on_images: str = ""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to the model's inputs, each `[T, L]`, padded to the longest text or to a fixed length."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The length of each of T texts; texts of similar length share a batch, to save padding."""
        return [len(text) for text in texts]

    @abstractmethod
    def forward(self, tokens: Mapping[str, Tensor]) -> Features:
        """Inputs `[T, L]` to float32 `embedding [T, D]` and `tokens [T, L, W]`, W being the model's width."""

    @abstractmethod
    def saved_config(self) -> dict[str, Any]:
        """What `from_saved` needs besides the weights, tokenizer included, as JSON values."""

    @abstractmethod
    def token_embedding(self) -> nn.Embedding:
        """The layer from token ids to vectors `[V, W]`."""

    @staticmethod
    def from_saved(config: Mapping[str, Any]) -> TextEncoder:
        """The encoder of a `saved_config`, randomly initialized; needs no network and no other file."""
        encoder: TextEncoder = _SAVED.get(config["kind"])(config)
        return encoder

    def token_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The token ids of each of T texts, without padding; texts with equal ids have equal embeddings."""
        if not texts:
            return []
        tokens = self.tokenize(texts)
        ids = tokens["input_ids"]
        mask = tokens.get("attention_mask", torch.ones_like(ids)).bool()
        return [tuple(row[used].tolist()) for row, used in zip(ids, mask, strict=True)]

    def with_context(self, tokens: Mapping[str, Tensor], first: int, context: Tensor) -> Features:
        """`forward` with M token vectors of each text replaced by learned ones.

        Args:
            tokens: inputs, each `[T, L]`.
            first: position of the first replaced token.
            context: their vectors `[M, W]`.
        """
        end = first + len(context)

        def replace(_: nn.Module, __: object, vectors: Tensor) -> Tensor:
            learned = context.to(vectors.dtype).expand(len(vectors), -1, -1)
            return torch.cat([vectors[:, :first], learned, vectors[:, end:]], dim=1)

        hook = self.token_embedding().register_forward_hook(replace)
        try:
            features: Features = self(tokens)
        finally:
            hook.remove()
        return features

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Float32 embeddings `[T, D]` of T texts, without gradients or dropout.

        Each distinct text is encoded once, in batches of similar length.
        """
        device = next(self.parameters()).device
        distinct = sorted(set(texts))
        length = dict(zip(distinct, self.lengths(distinct), strict=True))
        distinct.sort(key=lambda text: length[text])
        starts = range(0, len(distinct), batch_size)
        training = self.training
        self.eval()
        try:
            parts = [torch.empty(0, self.dim, device=device)]
            for start in progress(starts, "encoding texts", len(starts), "batches"):
                tokens = self.tokenize(distinct[start : start + batch_size])
                parts.append(self({k: v.to(device) for k, v in tokens.items()}).embedding)
        finally:
            self.train(training)
        row = {text: i for i, text in enumerate(distinct)}
        return torch.cat(parts)[torch.tensor([row[t] for t in texts], dtype=torch.long, device=device)]
