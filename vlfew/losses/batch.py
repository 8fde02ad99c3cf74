"""What a term of the objective sees: one encoding of the whole batch, and relations as indices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vlfew.core.errors import ModelError
from vlfew.core.features import Features


class PairSimilarity(Protocol):
    """The model's similarity, as far as pair losses use it."""

    needs_map: bool

    def pair(self, a: Features, b: Features) -> Tensor:
        """How alike M images and M others are, row by row: `[M]`, higher means more alike."""
        ...


class BatchPairs(NamedTuple):
    """Pairs within a batch: images `i [M]` and `j [M]`, and whether they are of one class."""

    i: Tensor
    j: Tensor
    same: Tensor


@dataclass
class EncodedBatch:
    """A batch after both streams; over all processes, so that every image meets every other.

    Attributes:
        image: features of B images, `embedding [B, D]`, and `map` where a term needs it.
        labels: `[B]` class of each image.
        target: `[B]` the same, counted among the training classes: 0 to C-1; None where no term asks.
        words: `[T, D]` embeddings of texts, if the classes have any.
        text_labels: `[T]` class of each text.
        similarity: the model's own, for terms that train it.
        drawn_pairs: the pairs that the batch was drawn for, if it was.
        progress: the share of the training that is done, 0 to 1; a term that counts for a part of it
            sees the share of that part.
        unshared: whether the embedding is of two streams that share no weights, side by side: what
            the left one gives, `[B, D / 2]`, and then what the right one gives.
    """

    image: Features
    labels: Tensor
    target: Tensor | None = None
    words: Tensor | None = None
    text_labels: Tensor | None = None
    similarity: PairSimilarity | None = None
    drawn_pairs: BatchPairs | None = None
    progress: float = 0.0
    unshared: bool = False

    @cached_property
    def same_class(self) -> Tensor:
        """`[B, B]` bool, the diagonal included."""
        return self.labels[:, None] == self.labels[None, :]

    @cached_property
    def pairs(self) -> BatchPairs:
        """Those the batch was drawn for, else every pair of different images, once."""
        if self.drawn_pairs is not None:
            return self.drawn_pairs
        i, j = torch.triu_indices(len(self.labels), len(self.labels), offset=1, device=self.labels.device)
        return BatchPairs(i, j, self.labels[i] == self.labels[j])

    def pair_similarity(self, who: str) -> Tensor:
        """How alike the two of each pair are by the model's similarity, `[M]`.

        Raises:
            ModelError: the model has none, and `who` needs it.
        """
        if self.similarity is None:
            raise ModelError(f"{who} needs a model with a similarity")
        # Maps of thousands of pairs are not gathered for nothing.
        seen = self.image if self.similarity.needs_map else replace(self.image, map=None)
        i, j, _ = self.pairs
        return self.similarity.pair(seen[i], seen[j])

    @cached_property
    def sides(self) -> tuple[Tensor, Tensor]:
        """What the left and the right stream give of each image; where they share weights, the same."""
        x = self.image.embedding
        if not self.unshared:
            return x, x
        left, right = x.chunk(2, dim=1)
        return left, right

    @cached_property
    def compared(self) -> BatchPairs:
        """`pairs` as they are compared, the left of `i` with the right of `j`.

        Where the streams share no weights, each pair is compared both ways round.
        """
        i, j, same = self.pairs
        if not self.unshared:
            return self.pairs
        return BatchPairs(torch.cat([i, j]), torch.cat([j, i]), torch.cat([same, same]))


def balanced_mean(loss: Tensor, same: Tensor) -> Tensor:
    """Half the mean over same pairs plus half the mean over different ones; `loss`, `same` are `[M]`.

    In a batch different pairs outnumber same pairs many times; without balance "always different"
    is a good answer. A kind without pairs counts as zero, so an empty batch gives 0, not NaN.
    """
    weight_same = same.to(loss.dtype)
    weight_different = 1 - weight_same
    mean_same = (loss * weight_same).sum() / weight_same.sum().clamp(min=1)
    mean_different = (loss * weight_different).sum() / weight_different.sum().clamp(min=1)
    return (mean_same + mean_different) / 2
