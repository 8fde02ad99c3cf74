"""The base class of losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from vlfew.core.features import FeatureSpec
from vlfew.losses.batch import EncodedBatch


class LossContext(NamedTuple):
    """Sizes that a loss with weights of its own for each training class needs.

    Attributes:
        feature_spec: sizes of the image stream's output.
        classes: C, the number of training classes.
    """

    feature_spec: FeatureSpec
    classes: int


class Loss(nn.Module):
    """A loss over an encoded batch. The keyword-only parameters of its constructor are its options.

    Attributes:
        needs_text: whether it needs texts; it is dropped where classes have none.
        needs_map: whether it uses `image.map`.
        needs_embedding: whether it uses `image.embedding`.
        trains_similarity: whether it trains the model's similarity.
        required_similarity: the only similarity that it can train, if it cannot train every one.
        needs_classes: whether it learns weights for each training class; its constructor takes a `LossContext` first.
        pairs_only: whether it needs no labels but those of `pairs`.
        supports_unshared: whether it compares the left with the right embeddings of a model that shares no weights.
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
        """Checks, before training, that the loss can be computed on the batches.

        Args:
            options: all options of the loss.
            classes: in every batch; None where their number varies.
            images: per class, or None.

        Raises:
            ConfigError: it cannot.
        """

    @abstractmethod
    def forward(self, batch: EncodedBatch) -> Tensor:
        """The loss, a float32 scalar."""
