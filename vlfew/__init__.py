"""vlfew: recognize new classes from one image, a few words, or both.

import vlfew

model = vlfew.load("runs/quickstart")
clf = model.classifier({"cat": "a photo of a cat", "my mug": Path("mug.jpg")})
clf.predict([Path("image.jpg")])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vlfew.core.errors import VlfewError
    from vlfew.data import ImagePreprocessor, LabeledImages, load_data
    from vlfew.data.interop import from_huggingface, from_torchvision
    from vlfew.evaluation.adaptation.compare import adapt
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.evaluate import evaluate
    from vlfew.evaluation.feature_bank import FeatureBank
    from vlfew.models import Classifier, DualStream, Prediction, load

# The public API on one screen. Resolved at first use, so that `import vlfew` and `vlfew --help`
# do not wait for torch.
_WHERE = {
    "Classifier": "vlfew.models",
    "DualStream": "vlfew.models",
    "FeatureBank": "vlfew.evaluation.feature_bank",
    "LabeledImages": "vlfew.data",
    "Prediction": "vlfew.models",
    "ImagePreprocessor": "vlfew.data",
    "EvaluationContext": "vlfew.evaluation.subject",
    "VlfewError": "vlfew.core.errors",
    "adapt": "vlfew.evaluation.adaptation.compare",
    "evaluate": "vlfew.evaluation.evaluate",
    "from_huggingface": "vlfew.data.interop",
    "from_torchvision": "vlfew.data.interop",
    "load": "vlfew.models",
    "load_data": "vlfew.data",
}

__all__ = [
    "Classifier",
    "DualStream",
    "EvaluationContext",
    "FeatureBank",
    "ImagePreprocessor",
    "LabeledImages",
    "Prediction",
    "VlfewError",
    "adapt",
    "evaluate",
    "from_huggingface",
    "from_torchvision",
    "load",
    "load_data",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vlfew' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
