"""vlfew: vision-language few-shot learning. Recognize new classes from one image, some text, or both.

import vlfew

model = vlfew.load("runs/quickstart")
clf = vlfew.FewShotClassifier.from_classes(model, {"cat": "a photo of a cat", "my mug": Path("mug.jpg")})
clf.predict([Path("image.jpg")])
"""

from typing import TYPE_CHECKING

from vlfew.core.lazy import lazy_attributes

__version__ = "0.2.0"

if TYPE_CHECKING:
    from vlfew.core.errors import VlfewError
    from vlfew.data.interop import from_huggingface, from_torchvision
    from vlfew.data.labeled_images import LabeledImages
    from vlfew.data.loading import load_data
    from vlfew.data.preprocess import ImagePreprocessor
    from vlfew.evaluation.feature_bank import FeatureBank
    from vlfew.evaluation.results import Result, results_frame
    from vlfew.models.dual_stream import DualStream
    from vlfew.models.few_shot_classifier import FewShotClassifier, Prediction
    from vlfew.models.loading import load
    from vlfew.workflows.adapt import adapt
    from vlfew.workflows.evaluate import evaluate
    from vlfew.workflows.train import train
    from vlfew.workflows.tune import tune

# The public API on one screen, resolved on first use: `import vlfew` and `vlfew --help` do not wait for torch.
_MODULES = {
    "load": "vlfew.models.loading",
    "DualStream": "vlfew.models.dual_stream",
    "FewShotClassifier": "vlfew.models.few_shot_classifier",
    "Prediction": "vlfew.models.few_shot_classifier",
    "train": "vlfew.workflows.train",
    "tune": "vlfew.workflows.tune",
    "evaluate": "vlfew.workflows.evaluate",
    "adapt": "vlfew.workflows.adapt",
    "Result": "vlfew.evaluation.results",
    "results_frame": "vlfew.evaluation.results",
    "FeatureBank": "vlfew.evaluation.feature_bank",
    "load_data": "vlfew.data.loading",
    "LabeledImages": "vlfew.data.labeled_images",
    "ImagePreprocessor": "vlfew.data.preprocess",
    "from_torchvision": "vlfew.data.interop",
    "from_huggingface": "vlfew.data.interop",
    "VlfewError": "vlfew.core.errors",
}

__all__ = [
    "DualStream",
    "FeatureBank",
    "FewShotClassifier",
    "ImagePreprocessor",
    "LabeledImages",
    "Prediction",
    "Result",
    "VlfewError",
    "adapt",
    "evaluate",
    "from_huggingface",
    "from_torchvision",
    "load",
    "load_data",
    "results_frame",
    "train",
    "tune",
]

__getattr__ = lazy_attributes(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)
