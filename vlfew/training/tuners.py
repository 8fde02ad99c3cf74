"""What adapts a trained model to new classes by gradient steps on their support, by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlfew.models.dual_stream import DualStream
from vlfew.registry import Registry


@dataclass
class Tuned:
    """A model that was adapted to N classes.

    Attributes:
        model: that sees their pictures; another than the one that was given, where it was changed.
        words: `[N, D]` of the classes, in the space of its pictures, not normalised.
    """

    model: DualStream
    words: Tensor


TUNERS = Registry(
    "tuner",
    {
        "coop": "vlfew.training.coop:coop",
        "lora": "vlfew.training.few_shot_lora:few_shot_lora",
    },
)
"""Called with `(model, images uint8 [S, C, H, W], labels [S] in 0..N-1, class_texts, seed=0, **options)`; each
gives a `Tuned`."""
