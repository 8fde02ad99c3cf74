"""The dual-stream model: built, saved, loaded, used and fine-tuned."""

from typing import TYPE_CHECKING

from vlfew.core.lazy import lazy_imports
from vlfew.core.registry import Registry

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream as DualStream
    from vlfew.models.dual_stream import DualStreamOutput as DualStreamOutput
    from vlfew.models.few_shot_classifier import FewShotClassifier as FewShotClassifier
    from vlfew.models.few_shot_classifier import Prediction as Prediction
    from vlfew.models.loading import load as load
    from vlfew.models.serialization import save_model as save_model
    from vlfew.models.spec import ModelSpec as ModelSpec
    from vlfew.models.spec import TextSpec as TextSpec

FINE_TUNERS = Registry(
    "fine-tuning method",
    {
        "coop": "vlfew.models.coop:coop",
        "lora": "vlfew.models.few_shot_lora:few_shot_lora",
    },
)
"""Called with `(model, images uint8 [S, C, H, W], labels [S] in 0..N-1, class_texts, seed=0, **options)`; each
returns a `vlfew.models.fine_tuning.FineTunedModel`."""

# Imported at first use, so that listing the fine-tuning methods does not import torch.
__getattr__, __all__ = lazy_imports(__name__)
__all__ += ["FINE_TUNERS"]
