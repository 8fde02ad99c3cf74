"""The tiny open_clip folder of the encoders' tests, and a hub that cannot be reached."""

from __future__ import annotations

from typing import Any

import torch

from tests.encoders.conftest import bert_folder, clip_folder, no_hub
from vlfew.models import DualStream, ModelSpec, build_model
from vlfew.models.spec import TextSpec

__all__ = ["bert_folder", "clip_folder", "no_hub", "worded"]


def worded(*, center_embeddings: bool, **text: Any) -> DualStream:
    """A tiny untrained model with words, the same weights each time."""
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
    return build_model(spec).eval()
