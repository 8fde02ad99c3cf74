"""SphereFace (Liu, Wen, Yu, Li, Raj and Song 2017)."""

from __future__ import annotations

from torch import Tensor

from vlfew.losses.l_softmax import LSoftmaxLoss


class SphereFaceLoss(LSoftmaxLoss):
    """A-Softmax (Liu et al. 2017, eq. 7): L-Softmax with normalized class vectors; options as there.

    Only the angle decides between classes, so embeddings are compared by cosine.
    """

    def scale(self, x: Tensor) -> Tensor:
        return x.norm(dim=1, keepdim=True)
