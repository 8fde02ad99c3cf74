"""LP++: a linear probe whose weights are what images show and a share of what words say."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from vlfew.classifiers.adapter import Adapter
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import Support
from vlfew.core.checks import check_each_positive
from vlfew.core.features import Features, FeatureSpec

MOMENTUM = 0.9
CYCLE = 10
"""Steps of the prototypes for each step of the shares."""


class LPPlusPlus(Adapter):
    """Huang et al. 2024, equation 3: logits `x . (w_k + a_k t_k)`, with a share a_k of the words t_k for each class.

    Prototypes w and shares a are learned by the mean cross entropy of the images, block by block. Where they
    begin and how far they step is told by the data, so that no validation is needed: w_k is the sum of the
    images of its class, all a_k are `blend` times the mean cosine of images to their own words, and steps
    are bounded by the curvature, `4 S / eig_max(X'X)` for w and `S / (4 max_k sum_i (x_i . t_k)^2)` for a. The
    authors' program gives w a momentum of 0.9 and a one step in ten, as here, and keeps the step that is
    best on validation images; here it is the last one.

    Args:
        feature_spec: where the embeddings are.
        blend: the authors' constant. It was found for CLIP, whose cosines of images to their words are
            near 0.25; other models may want less, which is all that there is to choose.
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

    def fit(self, support: Support) -> Self:
        images, class_id = self.images(support)
        words = normalized_mean(self.words(support)).mT
        count = len(class_id)
        target = one_hot(class_id, support.n_classes).to(images.dtype)
        said = images @ words
        of_own_class = (said * target).sum(-2) / target.sum(0)
        w = images.mT @ target
        share = (self.blend * of_own_class.mean(-1, keepdim=True)).expand_as(of_own_class).unsqueeze(-2)
        gram = images.mT @ images if count > images.shape[-1] else images @ images.mT
        w_rate = 4 * count / torch.linalg.eigvalsh(gram)[..., -1, None, None]
        share_rate = count / (4 * said.square().sum(-2, keepdim=True).amax(-1, keepdim=True))
        velocity = torch.zeros_like(w)
        for step in range(1, self.steps + 1):
            wrong = (torch.softmax(images @ w + share * said, -1) - target) / count
            velocity = MOMENTUM * velocity + images.mT @ wrong
            w = w - w_rate * velocity
            if step % CYCLE == 0:
                share = share - share_rate * (wrong * said).sum(-2, keepdim=True)
        self._weights = w + share * words
        return self

    def score(self, queries: Features) -> Tensor:
        logits: Tensor = normalize(queries.embedding, dim=-1) @ self._weights
        return logits
