"""A batch with everything that a loss may use, and losses by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.similarities import SIMILARITIES

MAP = (5, 3, 4)
"""C, H and W of the maps."""
MAPS_ALONE = ("cross_attention", "cross_attention_classes", "map_cross_entropy")
"""Losses that do not use the embedding."""


def build(name, dim=8, **options):
    """A loss by name, over four training classes, with the same initial weights at every call."""
    torch.manual_seed(0)
    kind = LOSSES.get(name)
    return kind(*[LossContext(FeatureSpec(dim, MAP), 4)] * kind.needs_classes, **options)


def encoded(labels, dim=8, texts=None, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(len(labels), dim, generator=generator).to(dtype).requires_grad_()
    text_embedding = text_labels = text_vectors = None
    if texts is not None:
        text_embedding = torch.randn(len(texts), dim, generator=generator).to(dtype).requires_grad_()
        text_labels = torch.tensor(texts)
        text_vectors = torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(seed + 1))
    # Not negative, as after a ReLU.
    maps = torch.rand(len(labels), *MAP, generator=generator).to(dtype).requires_grad_()
    similarity = SIMILARITIES.get("weighted_l1")(FeatureSpec(dim))
    labels = torch.tensor(labels)
    return EncodedBatch(
        Features(image, map=maps),
        labels,
        labels,
        text_embedding,
        text_labels,
        similarity,
        text_vectors=text_vectors,
    )


def unit(x):
    return F.normalize(x, dim=1)


LABELS = [0, 0, 1, 1, 1, 2, 3]
