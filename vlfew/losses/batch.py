"""The input of a loss: one encoding of the whole batch, and which items belong together, as indices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features
from vlfew.similarities.base import Similarity


class BatchPairs(NamedTuple):
    """Pairs of images of a batch: indices `i [M]` and `j [M]`, and whether they are of the same class."""

    i: Tensor
    j: Tensor
    same: Tensor


@dataclass
class EncodedBatch:
    """A batch after both encoders, gathered from all processes, so that every image is compared with every other.

    Attributes:
        image: features of B images: `embedding [B, D]`, and `map` where a loss needs it.
        labels: `[B]` class of each image.
        target: `[B]` the same as indices of the training classes, 0 to C - 1; None where no loss needs them.
        text: `[T, D]` embeddings of texts, if the classes have any.
        text_labels: `[T]` class of each text.
        similarity: of the model, for losses that train it.
        sampled_pairs: the pairs that the batch was sampled for, if it was.
        progress: share of the training that is done, 0 to 1; a loss that is active for a part of the training gets
            the share of that part.
        unshared: whether the embedding is that of two encoders without shared weights, `[B, D / 2]` of the left one
            followed by `[B, D / 2]` of the right one.
        host_labels: `[B]` labels in host memory, from which shapes that depend on them are computed; None to use
            `labels`, for which the host has to wait on a GPU.
        text_vectors: `[T, D_text]` of the text encoder, before the projection, for losses that it teaches.
    """

    image: Features
    labels: Tensor
    target: Tensor | None = None
    text: Tensor | None = None
    text_labels: Tensor | None = None
    similarity: Similarity | None = None
    sampled_pairs: BatchPairs | None = None
    progress: float = 0.0
    unshared: bool = False
    host_labels: Tensor | None = None
    text_vectors: Tensor | None = None

    @property
    def known_labels(self) -> Tensor:
        """Labels `[B]` in host memory if they are there."""
        return self.labels if self.host_labels is None else self.host_labels

    def on_device(self, x: Tensor) -> Tensor:
        """A tensor computed from `known_labels`, on the device of the batch."""
        return x.to(self.labels.device, non_blocking=True)

    @cached_property
    def same_class(self) -> Tensor:
        """Whether two images are of the same class, bool `[B, B]`; the diagonal is true."""
        return self.labels[:, None] == self.labels[None, :]

    @cached_property
    def pairs(self) -> BatchPairs:
        """The pairs that the batch was sampled for, otherwise every pair of different images, once."""
        if self.sampled_pairs is not None:
            return self.sampled_pairs
        i, j = torch.triu_indices(len(self.labels), len(self.labels), offset=1, device=self.labels.device)
        return BatchPairs(i, j, self.labels[i] == self.labels[j])

    def pair_similarity(self, who: str) -> Tensor:
        """The model's similarity of each pair, `[M]`.

        Raises:
            ModelError: the model has none, and `who` needs it.
        """
        if self.similarity is None:
            raise ModelError(f"{who} needs a model with a similarity")
        # Indexing would copy the maps of thousands of pairs.
        image = self.image if self.similarity.needs_map else replace(self.image, map=None)
        i, j, _ = self.pairs
        return self.similarity.pairwise(image[i], image[j])

    @cached_property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Embeddings of the left and of the right encoder; the same where they share their weights."""
        x = self.image.embedding
        if not self.unshared:
            return x, x
        left, right = x.chunk(2, dim=1)
        return left, right

    @cached_property
    def compared_pairs(self) -> BatchPairs:
        """`pairs` as they are compared, the left of `i` with the right of `j`; both ways for unshared weights."""
        i, j, same = self.pairs
        if not self.unshared:
            return self.pairs
        return BatchPairs(torch.cat([i, j]), torch.cat([j, i]), torch.cat([same, same]))

    def require_target(self) -> Tensor:
        """`[B]` training class of each image, 0 to C - 1.

        Raises:
            DataError: the batch consists of pairs whose classes are unknown.
        """
        if self.target is None:
            raise DataError("a classification loss needs the class of each image, and this batch has none")
        return self.target

    def text_cosines(self) -> tuple[Tensor, Tensor]:
        """Cosines `[B, T]` of images and texts, and whether they are of the same class, bool `[B, T]`.

        Raises:
            DataError: the batch has no texts.
        """
        if self.text is None or self.text_labels is None:
            raise DataError("an alignment loss needs texts, and this batch has none")
        image, text = F.normalize(self.image.embedding, dim=1), F.normalize(self.text, dim=1)
        return image @ text.T, self.labels[:, None] == self.text_labels[None, :]


def balanced_mean(loss: Tensor, same: Tensor) -> Tensor:
    """Half the mean over same pairs plus half the mean over different ones.

    Different pairs are in the majority; without balance "always different" would be a good answer. A kind without
    pairs counts as zero, so that a batch without pairs gives 0 instead of NaN.

    Args:
        loss: `[M]`.
        same: `[M]` bool.
    """
    weight_same = same.to(loss.dtype)
    weight_different = 1 - weight_same
    mean_same = (loss * weight_same).sum() / weight_same.sum().clamp(min=1)
    mean_different = (loss * weight_different).sum() / weight_different.sum().clamp(min=1)
    return (mean_same + mean_different) / 2
