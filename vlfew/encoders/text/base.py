"""What a text encoder is."""

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
        "huggingface": "vlfew.encoders.text.huggingface:from_saved",
        "open_clip": "vlfew.encoders.open_clip_models:text_from_saved",
    },
)


class TextEncoder(nn.Module):
    """A pretrained encoder of texts.

    Attributes:
        dim: width D of the embedding.
        pretrained: whether the weights come from outside data.
        seen_images: whether these data held images, as CLIP's did: its answers on classes that
            were held out here are then not on unseen ones.
    """

    dim: int
    pretrained: bool
    seen_images: bool = False

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to the model's inputs, each `[T, L]`, padded to the longest or to a fixed length."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How long each of T texts is; texts of one length share a batch, and what is shorter is padded."""
        return [len(text) for text in texts]

    @abstractmethod
    def forward(self, tokens: Mapping[str, Tensor]) -> Features:
        """Inputs `[T, L]` to float32 `embedding [T, D]` and `tokens [T, L, W]`, W the model's width."""

    @abstractmethod
    def saved_config(self) -> dict[str, Any]:
        """All that `from_saved` needs beside a state dict, tokenizer included, as JSON values."""

    def token_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """What the encoder sees of each of T texts: equal ones it cannot tell apart."""
        tokens = self.tokenize(texts)
        ids = tokens["input_ids"]
        mask = tokens.get("attention_mask", torch.ones_like(ids)).bool()
        return [tuple(row[kept].tolist()) for row, kept in zip(ids, mask, strict=True)]

    @abstractmethod
    def token_embedding(self) -> nn.Embedding:
        """The layer from token ids to vectors `[V, W]`."""

    def with_context(self, tokens: Mapping[str, Tensor], first: int, context: Tensor) -> Features:
        """`forward`, but for M tokens of each text, in whose place the encoder sees given vectors.

        Args:
            tokens: inputs `[T, L]`.
            first: place of the first of these tokens.
            context: `[M, W]`.
        """
        behind = first + len(context)

        def replaced(_: nn.Module, __: object, vectors: Tensor) -> Tensor:
            given = context.to(vectors.dtype).expand(len(vectors), -1, -1)
            return torch.cat([vectors[:, :first], given, vectors[:, behind:]], dim=1)

        hook = self.token_embedding().register_forward_hook(replaced)
        try:
            found: Features = self(tokens)
        finally:
            hook.remove()
        return found

    @staticmethod
    def from_saved(config: Mapping[str, Any]) -> TextEncoder:
        """The encoder of a `saved_config`, randomly initialized; needs no network and no other file."""
        encoder: TextEncoder = _SAVED.get(config["kind"])(config)
        return encoder

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Float32 embeddings `[T, D]` of T texts in their order, without gradients or dropout.

        Each distinct text is encoded once; texts of like length share a batch, so little is padded.
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
