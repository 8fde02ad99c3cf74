"""From the configuration's `sampling` to what draws the batches."""

from __future__ import annotations

from typing import Protocol

from vlfew.core.config import Sampling
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.annotated_pair import AnnotatedPairSampler
from vlfew.data.samplers.class_balanced import ClassBalancedSampler
from vlfew.data.samplers.episodic import EpisodicSampler
from vlfew.data.samplers.pair import PairSampler


class Sampler(Protocol):
    """Draws batches by number."""

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        ...


def make_sampler(data: LabeledImages, split: str, sampling: Sampling, seed: int) -> Sampler:
    """The sampler of a configuration.

    Raises:
        DataError: the split has too few classes, pairs or groups for it.
    """
    kind = {
        "classes": ClassBalancedSampler,
        "pairs": PairSampler,
        "episodes": EpisodicSampler,
        "annotated_pairs": AnnotatedPairSampler,
    }[sampling.form]
    sampler: Sampler = kind(data, split, seed=seed, **sampling.options())
    return sampler
