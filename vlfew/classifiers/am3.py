"""AM3: prototypes of images and texts, with a share per class that depends on its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.linalg import vecdot
from torch.nn.functional import normalize

from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.optimize import gradients_enabled, optimize, summed_cross_entropy
from vlfew.classifiers.prototypes import CosineMethod, normalized_mean, text_prototypes
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_each_positive
from vlfew.core.features import FeatureSpec
from vlfew.similarities.base import EPS


class AdaptiveMixture(CosineMethod):
    """Cosine to `lambda_c p_c + (1 - lambda_c) t_c` with `lambda_c = sigmoid(h(t_c))` (Xing et al. 2019, eq. 5 and 6).

    p is the normalized mean of a class's images and t that of its texts. In the paper h is a network that is trained
    with the image encoder over thousands of episodes. On frozen features only the classes of the support are available,
    so h is linear with an L2 penalty, and is trained by leave-one-out: each image is classified with its own class
    represented by its other images. Without a class of two images lambda stays 1/2, as in `multimodal_prototypes`. A
    class without images is its texts.

    Args:
        feature_spec: sizes of the features.
        penalty: on the squared weights of h, except its bias.
        steps: of AdamW.
        lr: initial learning rate.

    Raises:
        ConfigError: penalty, steps or lr not above 0.
    """

    needs_text = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"penalty": (0.01, 0.1, 1.0)}

    def __init__(
        self, feature_spec: FeatureSpec, *, penalty: float = 0.1, steps: int = 100, lr: float = 0.1
    ) -> None:
        super().__init__()
        check_each_positive("am3", penalty=penalty, steps=steps, lr=lr)
        self.penalty, self.steps, self.lr = penalty, steps, lr

    def fit(self, support: SupportSet) -> Self:
        texts = text_prototypes(support, "am3")
        images = normalized_mean(support.images)
        self._lambda = self._fit_lambda(support.images, images, texts)
        self._lambda[..., support.images.counts() == 0] = 0.0
        share = self._lambda.unsqueeze(-1)
        self._prototypes = normalize(share * images + (1 - share) * texts, dim=-1)
        return self

    def _fit_lambda(self, support: SupportSet, images: Tensor, texts: Tensor) -> Tensor:
        """lambda `[..., N]` of classes with prototypes `images` and `texts [..., N, D]`."""
        count = support.counts()
        left_out = (count[support.class_id] > 1).nonzero().flatten()
        if not len(left_out):
            return torch.full_like(texts[..., 0], 0.5)
        x = normalize(support.features.embedding, dim=-1)
        sums = support.mean(x) * count.unsqueeze(-1)
        x, own = x.index_select(-2, left_out), support.class_id[left_out]
        # An image is compared with all images of other classes, and all of its own class but itself.
        others = normalize(sums.index_select(-2, own) - x, dim=-1)
        own_texts = texts.index_select(-2, own)
        with gradients_enabled():
            text, class_id = texts.clone(), own.clone()
            to_classes = [x @ images.mT, x @ texts.mT, vecdot(images, texts).unsqueeze(-2)]
            to_own = [vecdot(x, others), vecdot(x, own_texts), vecdot(others, own_texts)]
            to_classes, to_own = [t.clone() for t in to_classes], [t.clone() for t in to_own]

        def cosines(share: Tensor) -> Tensor:
            """Cosines `[..., S, N]` of images to classes, each without the image itself."""
            every = mixture_cosine(share.unsqueeze(-2), *to_classes)
            without = mixture_cosine(share[..., class_id], *to_own).unsqueeze(-1)
            return every.scatter(-1, class_id.expand(without.shape[:-1]).unsqueeze(-1), without)

        with gradients_enabled():
            scale = fit_logit_scale(cosines(torch.full_like(text[..., 0], 0.5)), class_id)

        def loss(weights: Sequence[Tensor], _: Tensor) -> Tensor:
            logits = scale * cosines(mixing_share(text, *weights))
            penalty = self.penalty * weights[0].square().sum()
            return summed_cross_entropy(logits, class_id) + penalty

        starts = [torch.zeros_like(text[..., :1, :]).mT, torch.zeros_like(text[..., :1, :1])]
        items = len(class_id)
        weights = optimize(starts, loss, items, epochs=self.steps, batch_size=items, lr=self.lr, seed=0)
        return mixing_share(texts, *weights)


def mixing_share(texts: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`sigmoid(h(texts))`, `[..., N]`, of `texts [..., N, D]`, `weight [..., D, 1]` and `bias [..., 1, 1]`."""
    return torch.sigmoid(texts @ weight + bias).squeeze(-1)


def mixture_cosine(share: Tensor, image_cosine: Tensor, text_cosine: Tensor, agreement: Tensor) -> Tensor:
    """Cosine of a unit vector to `share * p + (1 - share) * t`, from its cosines to p and t and theirs.

    The mixture itself, which differs from image to image under leave-one-out, is never built.
    """
    rest = 1 - share
    squares = share.square() + rest.square() + 2 * share * rest * agreement
    return (share * image_cosine + rest * text_cosine) / squares.clamp(min=EPS).sqrt()
