"""Few-shot methods by name: one file and one line each.

A method is built as `CLASSIFIERS.get(name)(feature_spec, *, option=default, ...)`. Every registered similarity is one
as well; see `vlfew.classifiers.similarity_classifier`.
"""

from vlfew.classifiers.registry import MethodRegistry

CLASSIFIERS = MethodRegistry(
    "method",
    {
        "prototypes": "vlfew.classifiers.prototypes:Prototypes",
        "cross_attention_transductive": "vlfew.classifiers.transductive_cross_attention:TransductiveCrossAttention",
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
