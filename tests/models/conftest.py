"""Fixtures of the encoders' tests, and a tiny model with a text stream."""

from __future__ import annotations

from typing import Any

import torch

from tests.encoders.conftest import bert_folder, clip_folder, no_hub
from vlfew.models import DualStream, ModelSpec
from vlfew.models.spec import TextSpec

__all__ = ["bert_folder", "clip_folder", "no_hub", "tiny_text_model"]


def tiny_text_model(*, center_embeddings: bool, **text: Any) -> DualStream:
    """A tiny untrained model with a text stream, with the same weights each time."""
    torch.manual_seed(0)
    spec = ModelSpec(
        backbone="conv4",
        backbone_options={"width": 4},
        embedding_dim=8,
        image_size=16,
        tta="hflip",
        text=TextSpec(encoder="minilm", projection="linear", dropout=0.0, **text),
        center_embeddings=center_embeddings,
    )
    return DualStream.from_spec(spec).eval()
