"""Few-shot methods for images that two backbones encode, one for each side of a comparison."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Self

from torch import Tensor

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import SupportSet
from vlfew.core.features import Features
from vlfew.similarities.unshared import check_embeddings_only, left_and_right


class UnsharedMethod(FewShotMethod):
    """Mean of both directions: left embeddings of queries against right ones of the support, and the reverse.

    Embeddings are `[..., 2 D]`: the left backbone's output, then the right backbone's.

    Args:
        method: for embeddings `[..., D]`.

    Raises:
        ConfigError: `method` needs feature maps, of which unshared backbones give none.
    """

    def __init__(self, method: FewShotMethod) -> None:
        super().__init__()
        check_embeddings_only(getattr(method, "similarity", method))
        self.method, self.learned = method, method.learned
        self.needs_text, self.needs_images = method.needs_text, method.needs_images
        self.softmax_temperature = method.softmax_temperature

    def fit(self, support: SupportSet) -> Self:
        left, right = left_and_right(support.features)
        self._right = deepcopy(self.method).fit(replace(support, features=right))
        self._left = deepcopy(self.method).fit(replace(support, features=left))
        return self

    def logits(self, queries: Features) -> Tensor:
        left, right = left_and_right(queries)
        return (self._right.logits(left) + self._left.logits(right)) / 2
