"""vlfew: vision-language few-shot learning. Recognize new classes from one image, some text, or both.

from pathlib import Path

import vlfew

model = vlfew.load("runs/quickstart")
clf = vlfew.FewShotClassifier.from_classes(model, {"cat": "a photo of a cat", "my mug": Path("mug.jpg")})
clf.predict([Path("image.jpg")])
"""

from typing import TYPE_CHECKING

from vlfew.core.lazy import lazy_imports

__version__ = "0.2.0"

# The public API. A name is imported on first use: `import vlfew` and `vlfew --help` do not wait for torch.
if TYPE_CHECKING:
    from vlfew.core.errors import VlfewError as VlfewError
    from vlfew.data.interop import from_huggingface as from_huggingface
    from vlfew.data.interop import from_torchvision as from_torchvision
    from vlfew.data.labeled_images import LabeledImages as LabeledImages
    from vlfew.data.loading import load_data as load_data
    from vlfew.data.preprocess import ImagePreprocessor as ImagePreprocessor
    from vlfew.evaluation.feature_bank import FeatureBank as FeatureBank
    from vlfew.evaluation.results import Result as Result
    from vlfew.evaluation.results import results_frame as results_frame
    from vlfew.gallery.gallery import Gallery as Gallery
    from vlfew.models.dual_stream import DualStream as DualStream
    from vlfew.models.few_shot_classifier import FewShotClassifier as FewShotClassifier
    from vlfew.models.few_shot_classifier import Prediction as Prediction
    from vlfew.models.loading import load as load
    from vlfew.serving.client import GalleryClient as GalleryClient
    from vlfew.workflows.adapt import adapt as adapt
    from vlfew.workflows.evaluate import evaluate as evaluate
    from vlfew.workflows.train import train as train
    from vlfew.workflows.tune import tune as tune

__getattr__, __all__ = lazy_imports(__name__)


def __dir__() -> list[str]:
    return __all__
