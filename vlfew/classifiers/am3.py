"""AM3: how much a class is its images, and how much its words, is told by the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.linalg import vecdot
from torch.nn.functional import normalize

from vlfew.classifiers.adapter import Adapter, learning
from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.optimize import optimize, summed_cross_entropy
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import IMAGE, Support
from vlfew.core.checks import check_each_positive
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import EPS, cosine_matrix


class AdaptiveMixture(Adapter):
    """Xing et al. 2019, equations 5 and 6: `lambda_c p_c + (1 - lambda_c) w_c`, with `lambda_c = sigmoid(h(w_c))`.

    p is the normalized mean of a class's images and w that of its words; scores are cosines to the mixture.
    In the paper h is a network that is trained over thousands of episodes together with the image encoder.
    On frozen features there are only the classes of the support to learn from, and so h is linear, with an L2
    penalty, and is trained by leaving out each image in turn: it must be told from all classes, with its own
    class shown by the others of its images. So it needs a class of two images. Where there is none
    lambda stays where it begins, at 1/2 for all classes, and this is `multimodal_prototypes`; a class without
    images is its words.

    Args:
        feature_spec: where the embeddings are.
        penalty: on the squares of the weights of h, but for its constant.
        steps: of AdamW.
        lr: its rate, falling in half a cosine.

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

    def fit(self, support: Support) -> Self:
        words = normalized_mean(self.words(support))
        shown = support.of(IMAGE)
        images = normalized_mean(shown)
        self._lambda = self._learned(shown, images, words)
        self._lambda[..., shown.counts() == 0] = 0.0
        share = self._lambda.unsqueeze(-1)
        self._prototypes = normalize(share * images + (1 - share) * words, dim=-1)
        return self

    def score(self, queries: Features) -> Tensor:
        return cosine_matrix(queries.embedding, self._prototypes)

    def _learned(self, shown: Support, images: Tensor, words: Tensor) -> Tensor:
        """lambda `[..., N]` of classes with `images` and `words [..., N, D]`."""
        count = shown.counts()
        left_out = (count[shown.class_id] > 1).nonzero().flatten()
        if not len(left_out):
            return torch.full_like(words[..., 0], 0.5)
        x = normalize(shown.features.embedding, dim=-1)
        sums = shown.mean_of(x) * count.unsqueeze(-1)
        x, own = x.index_select(-2, left_out), shown.class_id[left_out]
        # A class is all of its images to those of other classes, and all but this one to its own.
        others = normalize(sums.index_select(-2, own) - x, dim=-1)
        with learning():
            said, class_id = words.clone(), own.clone()
            of_classes = [x @ images.mT, x @ words.mT, vecdot(images, words).unsqueeze(-2)]
            of_classes = [t.clone() for t in of_classes]
            own_words = words.index_select(-2, own)
            of_own = [vecdot(x, others), vecdot(x, own_words), vecdot(others, own_words)]
            of_own = [t.clone() for t in of_own]

        def scores(share: Tensor) -> Tensor:
            """Cosines `[..., P, N]` of images to classes, each without the image itself."""
            cosines = mixture_cosine(share.unsqueeze(-2), *of_classes)
            rest = mixture_cosine(share[..., class_id], *of_own).unsqueeze(-1)
            return cosines.scatter(-1, class_id.expand(rest.shape[:-1]).unsqueeze(-1), rest)

        with learning():
            scale = fit_logit_scale(scores(torch.full_like(said[..., 0], 0.5)), class_id)

        def loss(weights: Sequence[Tensor], part: Tensor) -> Tensor:
            logits = scale * scores(mixing(said, *weights))
            penalty = self.penalty * weights[0].square().sum()
            return summed_cross_entropy(logits, class_id) + penalty

        starts = [torch.zeros_like(said[..., :1, :]).mT, torch.zeros_like(said[..., :1, :1])]
        count_of = len(class_id)
        weights = optimize(starts, loss, count_of, epochs=self.steps, batch=count_of, lr=self.lr, seed=0)
        return mixing(words, *weights)


def mixing(words: Tensor, slope: Tensor, constant: Tensor) -> Tensor:
    """`sigmoid(h(words))` of `words [..., N, D]`, with `slope [..., D, 1]` and `constant [..., 1, 1]`: `[..., N]`."""
    return torch.sigmoid(words @ slope + constant).squeeze(-1)


def mixture_cosine(share: Tensor, to_images: Tensor, to_words: Tensor, agreement: Tensor) -> Tensor:
    """Cosine of a unit vector to `share * p + (1 - share) * w`, from its cosines to p and w and theirs.

    The mixture itself, one for each image where images are left out, never exists.
    """
    rest = 1 - share
    squares = share.square() + rest.square() + 2 * share * rest * agreement
    return (share * to_images + rest * to_words) / squares.clamp(min=EPS).sqrt()
