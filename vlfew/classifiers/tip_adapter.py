"""Tip-Adapter: the images of the support as a cache beside the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from vlfew.classifiers.adapter import Adapter, learning
from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.optimize import optimize, summed_cross_entropy
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import IMAGE, Support
from vlfew.core.checks import check_each_positive
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec


class TipAdapter(Adapter):
    """Zhang et al. 2022 (ECCV), equations 5 and 6: `alpha sum_i exp(-beta (1 - q.x_i)) y_i + scale q.words`.

    Every image x of the support votes for its class y, the more the nearer the query q is; nothing is
    trained. With alpha 0 it is zero-shot. A class may lack images.

    Args:
        feature_spec: where the embeddings are.
        alpha: weight of the votes, from 0; the paper's for ImageNet.
        beta: how fast a vote fades; the paper's for ImageNet.
        scale: of the cosine to the words; fitted on the images of the support when not given (`fit_logit_scale`).

    Raises:
        ConfigError: alpha below 0, or beta or scale not above 0.
    """

    needs_text = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {
        "alpha": (0.5, 1.0, 2.0, 5.0, 10.0),
        "beta": (1.0, 3.0, 5.5, 10.0),
    }

    def __init__(
        self, feature_spec: FeatureSpec, *, alpha: float = 1.0, beta: float = 5.5, scale: float | None = None
    ) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ConfigError(
                f"{type(self).__name__}'s alpha is {alpha}; it must be 0 (the words alone) or above"
            )
        check_each_positive(type(self).__name__, beta=beta, scale=1.0 if scale is None else scale)
        self.alpha, self.beta, self.scale = alpha, beta, scale

    def fit(self, support: Support) -> Self:
        words = normalized_mean(self.words(support)).mT
        images = support.of(IMAGE)
        self._keys = normalize(images.features.embedding, dim=-1)
        self._votes = one_hot(images.class_id, support.n_classes).to(words.dtype)
        scale = fit_logit_scale(self._keys @ words, images.class_id) if self.scale is None else self.scale
        self._classifier = scale * words
        return self

    def score(self, queries: Features) -> Tensor:
        return self.logits(normalize(queries.embedding, dim=-1), self._keys, self._classifier, self._votes)

    def logits(self, queries: Tensor, keys: Tensor, classifier: Tensor, votes: Tensor) -> Tensor:
        """`[..., Q, N]` of `queries [..., Q, D]`, `keys [..., P, D]`, `classifier [..., D, N]` and `votes [P, N]`."""
        nearness = torch.exp(self.beta * (queries @ keys.mT - 1))
        logits: Tensor = queries @ classifier + self.alpha * (nearness @ votes)
        return logits


class TipAdapterF(TipAdapter):
    """Tip-Adapter-F (section 3.3): the keys begin as the images and are trained by the cross entropy.

    Trained as the authors' program does, but without its new views of the images in every epoch: the
    features are frozen.

    Args:
        feature_spec: where the embeddings are.
        alpha: weight of the votes, from 0.
        beta: how fast a vote fades.
        scale: of the cosine to the words; fitted on the images of the support when not given.
        epochs: of the training.
        batch: images a step.
        lr: of AdamW, falling in half a cosine.
        seed: of the order of the images.

    Raises:
        ConfigError: alpha below 0, or another option not above 0.
    """

    needs_images = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"alpha": (1.0, 3.0)}

    def __init__(
        self,
        feature_spec: FeatureSpec,
        *,
        alpha: float = 1.0,
        beta: float = 5.5,
        scale: float | None = None,
        epochs: int = 20,
        batch: int = 256,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(feature_spec, alpha=alpha, beta=beta, scale=scale)
        check_each_positive("TipAdapterF", epochs=epochs, batch=batch, lr=lr)
        self.epochs, self.batch, self.lr, self.seed = epochs, batch, lr, seed

    def fit(self, support: Support) -> Self:
        self.images(support)
        super().fit(support)
        with learning():
            images, classifier, votes = (t.clone() for t in (self._keys, self._classifier, self._votes))
            class_id = votes.argmax(-1)

        def loss(weights: Sequence[Tensor], part: Tensor) -> Tensor:
            shown = images.index_select(-2, part)
            return summed_cross_entropy(self.logits(shown, weights[0], classifier, votes), class_id[part])

        (self._keys,) = optimize(
            [images],
            loss,
            len(class_id),
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            seed=self.seed,
        )
        return self
