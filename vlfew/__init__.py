"""vlfew: recognise new classes from one picture, a few words, or both.

import vlfew

model = vlfew.load("runs/quickstart")
clf = model.classifier({"cat": "a photo of a cat", "my mug": Path("mug.jpg")})
clf.predict([Path("picture.jpg")])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vlfew.data import LabelledImages, Reading, load_data
    from vlfew.data.adapters import from_huggingface, from_torchvision
    from vlfew.errors import VlfewError
    from vlfew.evaluation.adaptation import adapt
    from vlfew.evaluation.bank import FeatureBank
    from vlfew.evaluation.evaluate import evaluate
    from vlfew.evaluation.subject import Subject
    from vlfew.models import Classifier, DualStream, Prediction, load

# The public API on one screen. Resolved at first use, so that `import vlfew` and `vlfew --help`
# do not wait for torch.
_WHERE = {
    "Classifier": "vlfew.models",
    "DualStream": "vlfew.models",
    "FeatureBank": "vlfew.evaluation.bank",
    "LabelledImages": "vlfew.data",
    "Prediction": "vlfew.models",
    "Reading": "vlfew.data",
    "Subject": "vlfew.evaluation.subject",
    "VlfewError": "vlfew.errors",
    "adapt": "vlfew.evaluation.adaptation",
    "evaluate": "vlfew.evaluation.evaluate",
    "from_huggingface": "vlfew.data.adapters",
    "from_torchvision": "vlfew.data.adapters",
    "load": "vlfew.models",
    "load_data": "vlfew.data",
}

__all__ = [
    "Classifier",
    "DualStream",
    "FeatureBank",
    "LabelledImages",
    "Prediction",
    "Reading",
    "Subject",
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
