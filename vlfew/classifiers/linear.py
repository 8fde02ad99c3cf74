"""What the methods with a linear classifier over unit vectors share."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.base import FewShotMethod
from vlfew.core.features import Features


class LinearMethod(FewShotMethod):
    """A method whose logits are `x W` for unit vectors x and `self._weights [..., D, N]`."""

    _weights: Tensor

    def logits(self, queries: Features) -> Tensor:
        logits: Tensor = normalize(queries.embedding, dim=-1) @ self._weights
        return logits
