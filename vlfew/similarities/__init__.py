"""Similarities by name: one file and one line each.

A similarity compares two embeddings or feature maps. It is built as
`SIMILARITIES.get(name)(feature_spec, *, option=default, ...)`; a model is trained for one of them.
"""

from vlfew.core.registry import Registry

SIMILARITIES = Registry(
    "similarity",
    {
        "cosine": "vlfew.similarities.cosine:Cosine",
        "euclidean": "vlfew.similarities.euclidean:Euclidean",
        "weighted_l1": "vlfew.similarities.weighted_l1:WeightedL1",
        "cross_attention": "vlfew.similarities.cross_attention:CrossAttention",
    },
)
