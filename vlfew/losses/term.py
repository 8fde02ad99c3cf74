"""What a term of the objective is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from vlfew.features import Space
from vlfew.losses.encoded import Encoded


class Trained(NamedTuple):
    """What a term that learns something of each training class must know.

    Attributes:
        space: the sizes of what the image stream gives.
        classes: C, how many classes are trained on.
    """

    space: Space
    classes: int


class Term(nn.Module):
    """A loss. Its keyword-only constructor arguments are its options.

    Attributes:
        needs_words: dropped where classes have no words.
        needs_map: looks at `image.map`.
        needs_embedding: looks at `image.embedding`.
        trains_similarity: trains the model's own similarity.
        of_similarity: the one similarity that it can train, where it cannot train any.
        needs_classes: learns something of each training class; its constructor takes a `Trained` first.
        over_pairs: of labels it looks at `pairs` alone, and so can be trained where only these are known.
        takes_sides: compares `left` with `right`, and so can train twins that share no weights.
    """

    needs_words = False
    needs_map = False
    needs_embedding = True
    trains_similarity = False
    of_similarity: str | None = None
    needs_classes = False
    over_pairs = False
    takes_sides = False

    @classmethod
    def check_batches(cls, options: Mapping[str, Any], classes: int | None, pictures: int | None) -> None:
        """Raises, before anything is trained, what batches that the term has no use for would raise.

        Args:
            options: of the term, all of them.
            classes: that every batch has; None where that may change from batch to batch.
            pictures: of each of them; None likewise.

        Raises:
            ConfigError: it cannot be trained by such batches.
        """

    @abstractmethod
    def forward(self, batch: Encoded) -> Tensor:
        """A float32 scalar."""
