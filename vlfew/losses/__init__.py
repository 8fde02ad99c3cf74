"""Losses by name: one file and one line each.

A loss is a `vlfew.losses.base.Loss`; the keyword-only parameters of its constructor are its options.
"""

from vlfew.core.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "contrastive": "vlfew.losses.contrastive:ContrastiveLoss",
        "weighted_contrastive": "vlfew.losses.weighted_contrastive:WeightedContrastiveLoss",
        "triplet": "vlfew.losses.triplet:TripletLoss",
        "binary_cross_entropy": "vlfew.losses.binary_cross_entropy:BinaryCrossEntropyLoss",
        "focal": "vlfew.losses.focal:FocalLoss",
        "supervised_contrastive": "vlfew.losses.supervised_contrastive:SupervisedContrastiveLoss",
        "prototypical": "vlfew.losses.prototypical:PrototypicalLoss",
        "cross_entropy": "vlfew.losses.cross_entropy:CrossEntropyLoss",
        "adaptive_cross_entropy": "vlfew.losses.adaptive_cross_entropy:AdaptiveCrossEntropyLoss",
        "l_softmax": "vlfew.losses.l_softmax:LSoftmaxLoss",
        "sphereface": "vlfew.losses.sphereface:SphereFaceLoss",
        "cosface": "vlfew.losses.cosface:CosFaceLoss",
        "arcface": "vlfew.losses.arcface:ArcFaceLoss",
        "cross_attention": "vlfew.losses.cross_attention:CrossAttentionLoss",
        "cross_attention_classes": "vlfew.losses.cross_attention_classes:CrossAttentionClassesLoss",
        "map_cross_entropy": "vlfew.losses.map_cross_entropy:MapCrossEntropyLoss",
        "alignment_softmax": "vlfew.losses.alignment_softmax:AlignmentSoftmaxLoss",
        "alignment_sigmoid": "vlfew.losses.alignment_sigmoid:AlignmentSigmoidLoss",
        "alignment_distillation": "vlfew.losses.alignment_distillation:AlignmentDistillationLoss",
    },
)
