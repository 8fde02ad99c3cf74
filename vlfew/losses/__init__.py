"""The terms of an objective by name: one file (or class) and one line each.

A term is a `vlfew.losses.base.Term`; its keyword-only constructor arguments are its options.
"""

from vlfew.core.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "contrastive": "vlfew.losses.contrastive:PairContrastive",
        "weighted_contrastive": "vlfew.losses.s3net:WeightedContrastive",
        "triplet": "vlfew.losses.triplet:Triplet",
        "binary_cross_entropy": "vlfew.losses.binary_cross_entropy:PairBinaryCrossEntropy",
        "focal": "vlfew.losses.focal:PairFocal",
        "supervised_contrastive": "vlfew.losses.supervised_contrastive:SupervisedContrastive",
        "prototypical": "vlfew.losses.prototypical:Prototypical",
        "cross_entropy": "vlfew.losses.cross_entropy:CrossEntropy",
        "adaptive_cross_entropy": "vlfew.losses.s3net:AdaptiveCrossEntropy",
        "l_softmax": "vlfew.losses.l_softmax:LSoftmax",
        "sphereface": "vlfew.losses.l_softmax:SphereFace",
        "cosface": "vlfew.losses.additive_margin:CosFace",
        "arcface": "vlfew.losses.additive_margin:ArcFace",
        "cross_attention": "vlfew.losses.cross_attention:CrossAttentionNearest",
        "cross_attention_classes": "vlfew.losses.cross_attention:CrossAttentionClasses",
        "map_cross_entropy": "vlfew.losses.map_cross_entropy:MapCrossEntropy",
        "alignment_softmax": "vlfew.losses.alignment:SoftmaxAlignment",
        "alignment_sigmoid": "vlfew.losses.alignment:SigmoidAlignment",
    },
)
