"""CLIP-Adapter: a small residual network on image embeddings, before they are compared with the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.logit_scale import scale_or_fit
from vlfew.classifiers.optimize import gradients_enabled, optimize, summed_cross_entropy
from vlfew.classifiers.prototypes import text_prototypes, unit_images
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_each_positive, check_range
from vlfew.core.features import Features, FeatureSpec


class ClipAdapter(FewShotMethod):
    """Cosine of `ratio relu(relu(x A) B) + (1 - ratio) x` to the texts (Gao et al. 2024, equations 5 and 7).

    This is the paper's visual adapter; a text adapter added to it did not help there. x is a unit vector, because the
    lengths of embeddings differ from model to model.

    Args:
        feature_spec: sizes of the features; D is the width of the embedding.
        ratio: share of the adapted embedding, in `[0, 1]`; the paper has 0.2 for generic images and 0.6 for
            fine-grained ones.
        reduction: A has D / reduction outputs, at least 1.
        scale: logit scale; fitted on the support where not given.
        epochs: of the training.
        batch_size: images per step.
        lr: initial learning rate of AdamW.
        seed: of the initial weights and the order of the images.

    Raises:
        ConfigError: ratio outside `[0, 1]`, or another option not above 0.
    """

    needs_text = True
    needs_images = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"ratio": (0.2, 0.6)}

    def __init__(
        self,
        feature_spec: FeatureSpec,
        *,
        ratio: float = 0.2,
        reduction: int = 4,
        scale: float | None = None,
        epochs: int = 20,
        batch_size: int = 64,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("clip_adapter's ratio", ratio, 0, 1)
        above = {"reduction": reduction, "epochs": epochs, "batch_size": batch_size, "lr": lr}
        check_each_positive("clip_adapter", **above, scale=1.0 if scale is None else scale)
        self.ratio, self.reduction, self.scale, self.seed = ratio, reduction, scale, seed
        self.training_options: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "seed": seed,
        }

    def fit(self, support: SupportSet) -> Self:
        unit, class_id = unit_images(support, "clip_adapter")
        texts = text_prototypes(support, "clip_adapter").mT
        scale = scale_or_fit(self.scale, unit @ texts, class_id)
        with gradients_enabled():
            self._scale = torch.as_tensor(scale).clone()
            images, text_weights, class_id = unit.clone(), (scale * texts).clone(), class_id.clone()

        def loss(weights: Sequence[Tensor], indices: Tensor) -> Tensor:
            adapted = self.adapt(images.index_select(-2, indices), *weights)
            return summed_cross_entropy(adapted @ text_weights, class_id[indices])

        starts = self._initial_weights(images)
        self._weights = optimize(starts, loss, len(class_id), **self.training_options)
        self._text_weights = text_weights
        return self

    def transfer(self, texts: SupportSet) -> Self:
        # What the network learned about images applies to images of other classes.
        self._text_weights = self._scale * text_prototypes(texts, "clip_adapter").mT
        return self

    def logits(self, queries: Features) -> Tensor:
        adapted = self.adapt(normalize(queries.embedding, dim=-1), *self._weights)
        logits: Tensor = adapted @ self._text_weights
        return logits

    def adapt(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """Adapted unit vectors `[..., Q, D]` of unit vectors x `[..., Q, D]`."""
        adapted = torch.relu(torch.relu(x @ down) @ up)
        return normalize(self.ratio * adapted + (1 - self.ratio) * x, dim=-1)

    def _initial_weights(self, images: Tensor) -> list[Tensor]:
        """A `[..., D, H]` and B `[..., H, D]`, uniform as those of a linear layer; the same in all episodes."""
        dim = images.shape[-1]
        hidden = max(1, dim // self.reduction)
        generator = torch.Generator().manual_seed(self.seed)
        weights = []
        for rows, columns in ((dim, hidden), (hidden, dim)):
            uniform = (2 * torch.rand(rows, columns, generator=generator) - 1) / rows**0.5
            weights.append(uniform.to(images).expand(*images.shape[:-2], rows, columns))
        return weights
