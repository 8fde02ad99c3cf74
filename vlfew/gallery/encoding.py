"""Embeddings as a gallery keeps and compares them: usable, and of unit length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.errors import ModelError
from vlfew.core.plurals import first_names
from vlfew.gallery.images import ReadImage
from vlfew.models.dual_stream import DualStream


def encode_images(model: DualStream, images: Sequence[ReadImage]) -> Tensor:
    """Embeddings `[S, D]` of unit length.

    Raises:
        ModelError: one that is zero or not finite.
    """
    if not images:
        return torch.empty(0, model.embedding_size)
    embedding = model.encode_image(torch.stack([image.pixels for image in images])).cpu()
    return unit_length(embedding, [image.name for image in images])


def unit_length(embedding: Tensor, names: Sequence[str]) -> Tensor:
    """Embeddings `[S, D]` at unit length, in float32 on the CPU.

    Args:
        embedding: `[S, D]`.
        names: what each is of, for messages.

    Raises:
        ModelError: one that is zero or not finite.
    """
    embedding = embedding.detach().float().cpu()
    broken = ~embedding.isfinite().all(1)
    zero = ~(embedding.abs().amax(1) > 0) & ~broken
    for mask, what in ((broken, "NaN or infinity"), (zero, "an embedding of zeros")):
        if mask.any():
            bad = [names[n] for n in mask.nonzero().flatten().tolist()]
            raise ModelError(
                f"the model gives {what} for {first_names(bad, 3)}, which cannot be compared; leave it out"
            )
    return normalize(embedding, dim=1)


def to_rows(embedding: Tensor) -> list[bytes]:
    """Embeddings `[S, D]` as the bytes that a store keeps: float32, little endian."""
    return [row.tobytes() for row in embedding.numpy().astype("<f4")]
