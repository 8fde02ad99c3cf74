"""Zero-shot classification by text alone."""

from __future__ import annotations

from typing import Self

from vlfew.classifiers.prototypes import CosineMethod, text_prototypes
from vlfew.classifiers.support import SupportSet
from vlfew.core.features import FeatureSpec


class ZeroShot(CosineMethod):
    """Cosine to the normalized mean of a class's texts (Radford et al. 2021, section 3.1); images are ignored.

    Args:
        feature_spec: sizes of the features.
    """

    needs_text = True

    def __init__(self, feature_spec: FeatureSpec) -> None:
        super().__init__()

    def fit(self, support: SupportSet) -> Self:
        self._prototypes = text_prototypes(support, "zero_shot")
        return self
