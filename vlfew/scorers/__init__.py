"""The scorers by name: one file and one line each.

A scorer is built as `SCORERS.get(name)(space, *, option=default, ...)`; see `vlfew.features.Space`.
"""

from vlfew.registry import Registry
from vlfew.scorers.base import Scorer
from vlfew.scorers.support import PICTURE, WORDS, Support

SIMILARITIES = Registry(
    "similarity",
    {
        "cosine": "vlfew.scorers.similarity:Cosine",
        "euclidean": "vlfew.scorers.similarity:Euclidean",
        "weighted_l1": "vlfew.scorers.weighted_l1:WeightedL1",
        "cross_attention": "vlfew.scorers.cross_attention:CrossAttention",
    },
)
"""Those that a model can be trained for, and have as its own."""

SCORERS = Registry(
    "scorer",
    {
        **SIMILARITIES.entries,
        "prototypes": "vlfew.scorers.prototypes:Prototypes",
        "cross_attention_transductive": "vlfew.scorers.cross_attention:TransductiveCrossAttention",
        "pictures_and_words": "vlfew.scorers.pictures_and_words:PicturesAndWords",
        "zero_shot": "vlfew.scorers.zero_shot:ZeroShot",
        "am3": "vlfew.scorers.am3:AdaptiveMixture",
        "linear_probe": "vlfew.scorers.linear_probe:LinearProbe",
        "cross_modal": "vlfew.scorers.cross_modal:CrossModal",
        "tip_adapter": "vlfew.scorers.tip_adapter:TipAdapter",
        "tip_adapter_f": "vlfew.scorers.tip_adapter:TipAdapterF",
        "clip_adapter": "vlfew.scorers.clip_adapter:ClipAdapter",
        "lp_plus_plus": "vlfew.scorers.lp_plus_plus:LPPlusPlus",
    },
)

__all__ = ["PICTURE", "SCORERS", "SIMILARITIES", "WORDS", "Scorer", "Support"]
