"""CLIP-Adapter: images go through a small network before they meet the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.adapter import Adapter, learning
from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.optimize import optimize, summed_cross_entropy
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import Support
from vlfew.core.checks import check_each_positive
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec


class ClipAdapter(Adapter):
    """Gao et al. 2024 (IJCV), equations 5 and 7: cosine of `ratio relu(relu(x A) B) + (1 - ratio) x` to the words.

    The adapter of images; the paper finds that one of words beside it does not help. x is a unit vector here,
    since the lengths of features differ from model to model.

    Args:
        feature_spec: gives D, the embedding width.
        ratio: share of the adapted vector, in `[0, 1]`; the paper has 0.2 for common images and 0.6 for
            fine-grained ones.
        reduction: A gives D / reduction numbers, at least 1.
        scale: of the cosine; fitted on the images of the support when not given (`fit_logit_scale`).
        epochs: of the training.
        batch: images a step.
        lr: of AdamW, falling in half a cosine.
        seed: of the weights at the beginning and the order of the images.

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
        batch: int = 64,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= ratio <= 1:
            raise ConfigError(
                f"clip_adapter's ratio is {ratio}; it must be between 0 (the images as they are) and 1"
            )
        above = {"reduction": reduction, "epochs": epochs, "batch": batch, "lr": lr}
        check_each_positive("clip_adapter", **above, scale=1.0 if scale is None else scale)
        self.ratio, self.reduction, self.scale = ratio, reduction, scale
        self.epochs, self.batch, self.lr, self.seed = epochs, batch, lr, seed

    def fit(self, support: Support) -> Self:
        shown, class_id = self.images(support)
        words = normalized_mean(self.words(support)).mT
        scale = fit_logit_scale(shown @ words, class_id) if self.scale is None else self.scale
        with learning():
            self._scale = torch.as_tensor(scale).clone()
            images, classifier, class_id = shown.clone(), (scale * words).clone(), class_id.clone()

        def loss(weights: Sequence[Tensor], part: Tensor) -> Tensor:
            adapted = self.adapt(images.index_select(-2, part), *weights)
            return summed_cross_entropy(adapted @ classifier, class_id[part])

        self._weights = optimize(
            [weight.to(images) for weight in self._starts(images)],
            loss,
            len(class_id),
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            seed=self.seed,
        )
        self._classifier = classifier
        return self

    def transfer(self, words: Support) -> Self:
        # What the network learned of images holds for images of other classes.
        self._classifier = self._scale * normalized_mean(self.words(words)).mT
        return self

    def score(self, queries: Features) -> Tensor:
        adapted = self.adapt(normalize(queries.embedding, dim=-1), *self._weights)
        logits: Tensor = adapted @ self._classifier
        return logits

    def adapt(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """Unit vectors `[..., Q, D]` of unit vectors `[..., Q, D]`."""
        adapted = torch.relu(torch.relu(x @ down) @ up)
        return normalize(self.ratio * adapted + (1 - self.ratio) * x, dim=-1)

    def _starts(self, images: Tensor) -> list[Tensor]:
        """A `[..., D, H]` and B `[..., H, D]`, uniform as those of a linear layer; all episodes begin alike."""
        dim = images.shape[-1]
        hidden = max(1, dim // self.reduction)
        generator = torch.Generator().manual_seed(self.seed)
        starts = []
        for rows, columns in ((dim, hidden), (hidden, dim)):
            drawn = (2 * torch.rand(rows, columns, generator=generator) - 1) / rows**0.5
            starts.append(drawn.to(images).expand(*images.shape[:-2], rows, columns))
        return starts
