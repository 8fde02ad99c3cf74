"""What a term of the objective is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from vlfew.core.features import FeatureSpec
from vlfew.losses.batch import EncodedBatch


class LossContext(NamedTuple):
    """What a term that learns something of each training class must know.

    Attributes:
        feature_spec: the sizes of what the image stream gives.
        classes: C, how many classes are trained on.
    """

    feature_spec: FeatureSpec
    classes: int


class Loss(nn.Module):
    """A loss. Its keyword-only constructor arguments are its options.

    Attributes:
        needs_text: dropped where classes have no words.
        needs_map: looks at `image.map`.
        needs_embedding: looks at `image.embedding`.
        trains_similarity: trains the model's own similarity.
        required_similarity: the one similarity that it can train, where it cannot train any.
        needs_classes: learns something of each training class; its constructor takes a `LossContext` first.
        pairs_only: of labels it looks at `pairs` alone, and so can be trained where only these are known.
        supports_unshared: compares `left` with `right`, and so can train twins that share no weights.
    """

    needs_text = False
    needs_map = False
    needs_embedding = True
    trains_similarity = False
    required_similarity: str | None = None
    needs_classes = False
    pairs_only = False
    supports_unshared = False

    @classmethod
    def check_batches(cls, options: Mapping[str, Any], classes: int | None, images: int | None) -> None:
        """Raises, before anything is trained, what batches that the term has no use for would raise.

        Args:
            options: of the term, all of them.
            classes: that every batch has; None where that may change from batch to batch.
            images: of each of them; None likewise.

        Raises:
            ConfigError: it cannot be trained by such batches.
        """

    @abstractmethod
    def forward(self, batch: EncodedBatch) -> Tensor:
        """A float32 scalar."""
