"""LP++: a linear probe whose weights are image prototypes plus a share of the text."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch.nn.functional import one_hot

from vlfew.classifiers.linear import LinearMethod
from vlfew.classifiers.prototypes import text_prototypes, unit_images
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_each_positive
from vlfew.core.features import FeatureSpec

MOMENTUM = 0.9
CYCLE = 10
"""Steps of the prototypes per step of the text shares."""


class LPPlusPlus(LinearMethod):
    """Logits `x . (w_k + a_k t_k)` with a learned share a_k of the text t_k per class (Huang et al. 2024, equation 3).

    The prototypes w and shares a minimize the mean cross entropy of the images, block by block. Start and step sizes
    come from the data, so no validation is needed: w_k is the sum of the images of its class, every a_k is `blend`
    times the mean cosine of images to their own text, and steps are bounded by the curvature, `4 S / eig_max(X'X)`
    for w and `S / (4 max_k sum_i (x_i . t_k)^2)` for a. As in the authors' implementation, w has momentum and a takes
    one step in ten; that one returns the step that is best on validation images, this one the last.

    Args:
        feature_spec: sizes of the features.
        blend: the authors' constant, found for CLIP, whose cosines of images to their texts are near 0.25; other
            models may want less.
        steps: of the prototypes.

    Raises:
        ConfigError: blend or steps not above 0.
    """

    needs_text = True
    needs_images = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"blend": (25.0, 250.0)}

    def __init__(self, feature_spec: FeatureSpec, *, blend: float = 250.0, steps: int = 300) -> None:
        super().__init__()
        check_each_positive("lp_plus_plus", blend=blend, steps=steps)
        self.blend, self.steps = blend, steps

    def fit(self, support: SupportSet) -> Self:
        images, class_id = unit_images(support, "lp_plus_plus")
        texts = text_prototypes(support, "lp_plus_plus").mT
        count = len(class_id)
        target = one_hot(class_id, support.n_classes).to(images.dtype)
        text_cosines = images @ texts
        own_cosine = (text_cosines * target).sum(-2) / target.sum(0)
        w = images.mT @ target
        share = (self.blend * own_cosine.mean(-1, keepdim=True)).expand_as(own_cosine).unsqueeze(-2)
        gram = images.mT @ images if count > images.shape[-1] else images @ images.mT
        w_rate = 4 * count / torch.linalg.eigvalsh(gram)[..., -1, None, None]
        share_rate = count / (4 * text_cosines.square().sum(-2, keepdim=True).amax(-1, keepdim=True))
        velocity = torch.zeros_like(w)
        for step in range(1, self.steps + 1):
            error = (torch.softmax(images @ w + share * text_cosines, -1) - target) / count
            velocity = MOMENTUM * velocity + images.mT @ error
            w = w - w_rate * velocity
            if step % CYCLE == 0:
                share = share - share_rate * (error * text_cosines).sum(-2, keepdim=True)
        self._weights = w + share * texts
        return self
