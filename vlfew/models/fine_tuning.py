"""What adapts a trained model to new classes by gradient steps on their support, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from vlfew.core.registry import Registry
from vlfew.models.dual_stream import DualStream

Texts = Sequence[Sequence[str]]
"""Names of each of N classes; the mean of their embeddings stands for the class."""


@dataclass
class Tuned:
    """A model that was adapted to N classes.

    Attributes:
        model: that sees their images; another than the one that was given, where it was changed.
        say: from the names of classes to `[N, D]` in the space of its images, not normalized; of other
            classes than it was adapted to as well.
        scale: what cosines are multiplied by to be logits, as in the training.
    """

    model: DualStream
    say: Callable[[Texts], Tensor]
    scale: float


TUNERS = Registry(
    "tuner",
    {
        "coop": "vlfew.models.coop:coop",
        "lora": "vlfew.models.few_shot_lora:few_shot_lora",
    },
)
"""Called with `(model, images uint8 [S, C, H, W], labels [S] in 0..N-1, class_texts, seed=0, **options)`; each
gives a `Tuned`."""
