"""Cross-modal adaptation: a linear probe on images and texts together."""

from __future__ import annotations

from typing import ClassVar, Self

from torch.nn.functional import normalize

from vlfew.classifiers.linear import LinearMethod
from vlfew.classifiers.linear_probe import C
from vlfew.classifiers.logistic import logistic_weights
from vlfew.classifiers.logit_scale import scale_or_fit
from vlfew.classifiers.prototypes import text_prototypes
from vlfew.classifiers.support import SupportSet
from vlfew.core.checks import check_each_positive
from vlfew.core.features import FeatureSpec


class CrossModal(LinearMethod):
    """Logistic regression with texts as further samples (Lin, Yu, Kuang, Pathak and Ramanan 2023, equation 5).

    `LinearProbe` with `start="text"`, where every text of a class is one more sample of it: K shots become K + 1. In
    the authors' implementation half of each batch are texts; here every item counts once, as in the equation. A class
    may lack images.

    Args:
        feature_spec: sizes of the features.
        c: inverse strength of the penalty, as scikit-learn's C.
        scale: logit scale of the texts; fitted on the support where not given.
        steps: of the solver.

    Raises:
        ConfigError: c, scale or steps not above 0.
    """

    needs_text = True
    grid: ClassVar[dict[str, tuple[float, ...]]] = {"c": (1.0, 10.0, 30.0, 100.0, 1000.0)}

    def __init__(
        self, feature_spec: FeatureSpec, *, c: float = C, scale: float | None = None, steps: int = 50
    ) -> None:
        super().__init__()
        check_each_positive("cross_modal", c=c, scale=1.0 if scale is None else scale, steps=steps)
        self.c, self.scale, self.steps = c, scale, steps

    def fit(self, support: SupportSet) -> Self:
        texts = text_prototypes(support, "cross_modal").mT
        images = support.images
        cosines = normalize(images.features.embedding, dim=-1) @ texts
        scale = scale_or_fit(self.scale, cosines, images.class_id)
        prior, items = scale * texts, normalize(support.features.embedding, dim=-1)
        self._weights = logistic_weights(items, support.class_id, prior, prior, self.c * scale, self.steps)
        return self
