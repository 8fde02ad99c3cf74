"""Tip-Adapter: the images of the support as a cache model next to the zero-shot classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.logit_scale import scale_or_fit
from vlfew.classifiers.optimize import gradients_enabled, optimize, summed_cross_entropy
from vlfew.classifiers.prototypes import text_prototypes, unit_images
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_each_positive
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec


class TipAdapter(FewShotMethod):
    """`alpha sum_i exp(-beta (1 - q.x_i)) y_i + scale q.t` (Zhang et al. 2022, equations 5 and 6).

    Every image x_i of the support votes for its class y_i, more strongly the closer the query q is to it; the text t
    adds the zero-shot logit. No weights are trained. With alpha 0 it is zero-shot. A class may lack images.

    Args:
        feature_spec: sizes of the features.
        alpha: weight of the votes, 0 or more; the paper's for ImageNet.
        beta: how fast a vote decays with distance; the paper's for ImageNet.
        scale: logit scale of the texts; where not given, the one between 1 and 100 that fits the support set best.

    Raises:
        ConfigError: alpha below 0, or beta or scale not above 0.
    """

    name = "tip_adapter"
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
            raise ConfigError(f"{self.name}'s alpha is {alpha}; it must be 0 (zero-shot) or above")
        check_each_positive(self.name, beta=beta, scale=1.0 if scale is None else scale)
        self.alpha, self.beta, self.scale = alpha, beta, scale

    def fit(self, support: SupportSet) -> Self:
        texts = text_prototypes(support, self.name).mT
        images = support.images
        self._keys = normalize(images.features.embedding, dim=-1)
        self._votes = one_hot(images.class_id, support.n_classes).to(texts.dtype)
        self._text_weights = scale_or_fit(self.scale, self._keys @ texts, images.class_id) * texts
        return self

    def logits(self, queries: Features) -> Tensor:
        x = normalize(queries.embedding, dim=-1)
        return self._cache_logits(x, self._keys, self._text_weights, self._votes)

    def _cache_logits(self, x: Tensor, keys: Tensor, text_weights: Tensor, votes: Tensor) -> Tensor:
        """`[..., Q, N]` of `x [..., Q, D]`, `keys [..., S, D]`, `text_weights [..., D, N]` and `votes [S, N]`."""
        nearness = torch.exp(self.beta * (x @ keys.mT - 1))
        logits: Tensor = x @ text_weights + self.alpha * (nearness @ votes)
        return logits


class TipAdapterF(TipAdapter):
    """Tip-Adapter-F (section 3.3 of the paper): the keys start as the images and are fine-tuned.

    As the authors' implementation trains it, but without new augmentations of the images in every epoch, because the
    features are frozen.

    Args:
        feature_spec: sizes of the features.
        alpha: weight of the votes, 0 or more.
        beta: how fast a vote decays with distance.
        scale: logit scale of the texts; fitted on the support where not given.
        epochs: of the training.
        batch_size: images per step.
        lr: initial learning rate of AdamW.
        seed: of the order of the images.

    Raises:
        ConfigError: alpha below 0, or another option not above 0.
    """

    name = "tip_adapter_f"
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
        batch_size: int = 256,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(feature_spec, alpha=alpha, beta=beta, scale=scale)
        check_each_positive(self.name, epochs=epochs, batch_size=batch_size, lr=lr)
        self.training_options: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "seed": seed,
        }
        self.seed = seed

    def fit(self, support: SupportSet) -> Self:
        unit_images(support, self.name)
        super().fit(support)
        with gradients_enabled():
            images, text_weights, votes = (t.clone() for t in (self._keys, self._text_weights, self._votes))
            class_id = votes.argmax(-1)

        def loss(weights: Sequence[Tensor], indices: Tensor) -> Tensor:
            x = images.index_select(-2, indices)
            logits = self._cache_logits(x, weights[0], text_weights, votes)
            return summed_cross_entropy(logits, class_id[indices])

        (self._keys,) = optimize([images], loss, len(class_id), **self.training_options)
        return self
