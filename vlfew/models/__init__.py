"""The dual-stream model: built, saved, loaded, used and fine-tuned."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vlfew.core.registry import Registry

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream, DualStreamOutput  # noqa: F401
    from vlfew.models.few_shot_classifier import FewShotClassifier, Prediction  # noqa: F401
    from vlfew.models.loading import load  # noqa: F401
    from vlfew.models.serialization import save_model  # noqa: F401
    from vlfew.models.spec import ModelSpec, TextSpec  # noqa: F401

FINE_TUNERS = Registry(
    "fine-tuning method",
    {
        "coop": "vlfew.models.coop:coop",
        "lora": "vlfew.models.few_shot_lora:few_shot_lora",
    },
)
"""Called with `(model, images uint8 [S, C, H, W], labels [S] in 0..N-1, class_texts, seed=0, **options)`; each
returns a `vlfew.models.fine_tuning.FineTunedModel`."""

_MODULES = {
    "FewShotClassifier": "few_shot_classifier",
    "DualStream": "dual_stream",
    "DualStreamOutput": "dual_stream",
    "ModelSpec": "spec",
    "Prediction": "few_shot_classifier",
    "TextSpec": "spec",
    "load": "loading",
    "save_model": "serialization",
}
__all__ = ["FINE_TUNERS", *_MODULES]


def __getattr__(name: str) -> Any:
    # Imported at first use, so that listing the fine-tuning methods does not import torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
