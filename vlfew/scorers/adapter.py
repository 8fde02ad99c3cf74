"""What the methods that adapt to classes on frozen features have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.errors import ConfigError, VlfewError
from vlfew.features import Features
from vlfew.scorers import SCORERS
from vlfew.scorers.base import Scorer
from vlfew.scorers.similarity import cosine
from vlfew.scorers.support import PICTURE, WORDS, Support


class Adapter(Scorer):
    """A method whose weights, if any, are found by `fit` and go with the support."""

    def pair(self, a: Features, b: Features) -> Tensor:
        # What `fit` finds tells classes apart; two pictures without any class have their features alone.
        return cosine(a.embedding, b.embedding)

    def pictures(self, support: Support) -> tuple[Tensor, Tensor]:
        """Unit vectors of the pictures `[..., P, D]` and their classes `[P]`; each class has one at least.

        Raises:
            VlfewError: a class has none.
        """
        shown = support.of(PICTURE)
        if empty := shown.first_empty():
            raise VlfewError(
                f"class {empty} has no pictures in the support, which {type(self).__name__} needs; give each "
                "class at least one picture, or take zero_shot, which goes by words alone"
            )
        return normalize(shown.features.embedding, dim=-1), shown.class_id

    def words(self, support: Support) -> Support:
        """The words alone; each class has some.

        Raises:
            VlfewError: a class has none; the message names the methods that go without.
        """
        said = support.of(WORDS)
        if empty := said.first_empty():
            raise VlfewError(
                f"class {empty} has no words in the support, which {type(self).__name__} needs; "
                f"without words these remain: {', '.join(without_words())}"
            )
        return said


def without_words() -> list[str]:
    """The scorers that need neither words nor maps nor a training of their own."""
    return [
        name
        for name in SCORERS.names()
        if not any(getattr(SCORERS.get(name), need) for need in ("needs_words", "needs_map", "learned"))
    ]


def require_above_zero(who: str, **options: float) -> None:
    """Refuses options that are not above 0.

    Raises:
        ConfigError: names the first of them.
    """
    for option, value in options.items():
        if not value > 0:
            raise ConfigError(f"{who}'s {option} is {value}; it must be above 0")


@contextmanager
def learning() -> Iterator[None]:
    """Where weights are learned, although evaluation runs without gradients; clone what comes from outside."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
