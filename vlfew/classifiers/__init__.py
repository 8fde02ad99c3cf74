"""The scorers by name: one file and one line each.

A scorer is built as `CLASSIFIERS.get(name)(space, *, option=default, ...)`; see `vlfew.core.features.Space`.
"""

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import IMAGE, TEXT, Support
from vlfew.core.registry import Registry

SIMILARITIES = Registry(
    "similarity",
    {
        "cosine": "vlfew.similarities.base:Cosine",
        "euclidean": "vlfew.similarities.base:Euclidean",
        "weighted_l1": "vlfew.similarities.weighted_l1:WeightedL1",
        "cross_attention": "vlfew.similarities.cross_attention:CrossAttention",
    },
)
"""Those that a model can be trained for, and have as its own."""

CLASSIFIERS = Registry(
    "method",
    {
        **SIMILARITIES.entries,
        "prototypes": "vlfew.classifiers.prototypes:Prototypes",
        "cross_attention_transductive": "vlfew.similarities.cross_attention:TransductiveCrossAttention",
        "multimodal_prototypes": "vlfew.classifiers.multimodal_prototypes:MultimodalPrototypes",
        "zero_shot": "vlfew.classifiers.zero_shot:ZeroShot",
        "am3": "vlfew.classifiers.am3:AdaptiveMixture",
        "linear_probe": "vlfew.classifiers.linear_probe:LinearProbe",
        "cross_modal": "vlfew.classifiers.cross_modal:CrossModal",
        "tip_adapter": "vlfew.classifiers.tip_adapter:TipAdapter",
        "tip_adapter_f": "vlfew.classifiers.tip_adapter:TipAdapterF",
        "clip_adapter": "vlfew.classifiers.clip_adapter:ClipAdapter",
        "lp_plus_plus": "vlfew.classifiers.lp_plus_plus:LPPlusPlus",
    },
)

__all__ = ["CLASSIFIERS", "IMAGE", "SIMILARITIES", "TEXT", "FewShotMethod", "Support"]
