"""What the methods that adapt to classes on frozen features have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import IMAGE, TEXT, Support
from vlfew.core.errors import VlfewError
from vlfew.core.features import Features
from vlfew.similarities.base import cosine


class Adapter(FewShotMethod):
    """A method whose weights, if any, are found by `fit` and go with the support."""

    def pair(self, a: Features, b: Features) -> Tensor:
        # What `fit` finds tells classes apart; two images without any class have their features alone.
        return cosine(a.embedding, b.embedding)

    def images(self, support: Support) -> tuple[Tensor, Tensor]:
        """Unit vectors of the images `[..., P, D]` and their classes `[P]`; each class has one at least.

        Raises:
            VlfewError: a class has none.
        """
        shown = support.of(IMAGE)
        if empty := shown.first_empty():
            raise VlfewError(
                f"class {empty} has no images in the support, which {type(self).__name__} needs; give each "
                "class at least one image, or take zero_shot, which goes by words alone"
            )
        return normalize(shown.features.embedding, dim=-1), shown.class_id

    def words(self, support: Support) -> Support:
        """The words alone; each class has some.

        Raises:
            VlfewError: a class has none; the message names the methods that go without.
        """
        said = support.of(TEXT)
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
        for name in CLASSIFIERS.names()
        if not any(getattr(CLASSIFIERS.get(name), need) for need in ("needs_text", "needs_map", "learned"))
    ]


@contextmanager
def learning() -> Iterator[None]:
    """Where weights are learned, although evaluation runs without gradients; clone what comes from outside."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
