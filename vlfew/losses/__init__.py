"""The terms of an objective by name: one file (or class) and one line each.

A term is a `vlfew.losses.term.Term`; its keyword-only constructor arguments are its options.
"""

from vlfew.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "contrastive": "vlfew.losses.contrastive:PairContrastive",
        "binary_cross_entropy": "vlfew.losses.binary_cross_entropy:PairBinaryCrossEntropy",
        "supervised_contrastive": "vlfew.losses.supervised_contrastive:SupervisedContrastive",
        "prototypical": "vlfew.losses.prototypical:Prototypical",
        "cross_attention": "vlfew.losses.cross_attention:CrossAttentionNearest",
        "cross_attention_classes": "vlfew.losses.cross_attention:CrossAttentionClasses",
        "map_cross_entropy": "vlfew.losses.map_cross_entropy:MapCrossEntropy",
        "alignment_softmax": "vlfew.losses.alignment:SoftmaxAlignment",
        "alignment_sigmoid": "vlfew.losses.alignment:SigmoidAlignment",
    },
)
