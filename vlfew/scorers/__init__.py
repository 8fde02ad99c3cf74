"""The scorers by name: one file and one line each.

A scorer is built as `SCORERS.get(name)(dim, *, option=default, ...)`; `dim` is the embedding width.
"""

from vlfew.registry import Registry
from vlfew.scorers.base import Scorer
from vlfew.scorers.support import PICTURE, WORDS, Support

SCORERS = Registry(
    "scorer",
    {
        "cosine": "vlfew.scorers.similarity:Cosine",
        "euclidean": "vlfew.scorers.similarity:Euclidean",
        "weighted_l1": "vlfew.scorers.weighted_l1:WeightedL1",
        "prototypes": "vlfew.scorers.prototypes:Prototypes",
        "pictures_and_words": "vlfew.scorers.pictures_and_words:PicturesAndWords",
    },
)

__all__ = ["PICTURE", "SCORERS", "WORDS", "Scorer", "Support"]
