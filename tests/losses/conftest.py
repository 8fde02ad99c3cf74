"""A batch with all that a loss may look at, and losses by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vlfew.classifiers import CLASSIFIERS
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.batch import EncodedBatch

MAP = (5, 3, 4)
"""C, H and W of the maps."""
MAPS_ALONE = ("cross_attention", "cross_attention_classes", "map_cross_entropy")
"""Losses that do not look at the embedding."""


def build(name, dim=8, **options):
    """A term by name, over four training classes; what it learns of them is always the same at first."""
    torch.manual_seed(0)
    kind = LOSSES.get(name)
    return kind(*[LossContext(FeatureSpec(dim, MAP), 4)] * kind.needs_classes, **options)


def encoded(labels, dim=8, texts=None, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(len(labels), dim, generator=generator).to(dtype).requires_grad_()
    words = text_labels = None
    if texts is not None:
        words = torch.randn(len(texts), dim, generator=generator).to(dtype).requires_grad_()
        text_labels = torch.tensor(texts)
    # Like those after a ReLU.
    maps = torch.rand(len(labels), *MAP, generator=generator).to(dtype).requires_grad_()
    similarity = CLASSIFIERS.get("weighted_l1")(FeatureSpec(dim))
    labels = torch.tensor(labels)
    return EncodedBatch(Features(image, map=maps), labels, labels, words, text_labels, similarity)


def unit(x):
    return F.normalize(x, dim=1)


LABELS = [0, 0, 1, 1, 1, 2, 3]
