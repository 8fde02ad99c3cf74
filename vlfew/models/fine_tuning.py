"""Fine-tuning of a trained model on a support set: what its methods, CoOp and LoRA, have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_distinct_texts
from vlfew.models.dual_stream import DualStream

ClassTexts = Sequence[Sequence[str]]
"""Names of each of N classes; a class is represented by the mean of their embeddings."""


@dataclass
class FineTunedModel:
    """A model fine-tuned on a support set.

    Attributes:
        model: encodes images; a changed copy where its weights were fine-tuned.
        embed_classes: from the names of N classes, also of others than those it was fine-tuned on, to `[N, D]` on the
            CPU, not normalized.
        scale: factor of the cosines in its logits, as in training.
    """

    model: DualStream
    embed_classes: Callable[[ClassTexts], Tensor]
    scale: float


def check_support(model: DualStream, labels: Tensor, class_texts: ClassTexts) -> TextEncoder:
    """Checks that each class can be learned from a support set; returns the model's text encoder.

    Raises:
        ModelError: the model has no text stream.
        DataError: a class without images or texts, or classes whose texts have the same tokens.
    """
    encoder = model.require_text_encoder()
    for number, texts in enumerate(class_texts):
        if not texts or not bool((labels == number).any()):
            raise DataError(f"class {number} of the support set has no {'images' if texts else 'texts'}")
    check_distinct_texts(encoder, [texts[0] for texts in class_texts], class_texts)
    return encoder


def encode_support(model: DualStream, images: Tensor) -> Tensor:
    """Embeddings `[S, D]` of the images of a support set, on the CPU."""
    return torch.cat([model.image_features(batch).embedding for batch in images.split(256)])


def class_means(embeddings: Tensor, class_texts: ClassTexts) -> Tensor:
    """Embeddings `[T, D]` of all texts to the mean of each class, `[N, D]`."""
    return torch.stack([part.mean(0) for part in embeddings.split([len(texts) for texts in class_texts])])
