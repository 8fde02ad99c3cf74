"""Batch samplers: batch `n` depends on the seed and `n` only."""

from __future__ import annotations

from typing import Protocol

from vlfew.core.config import SamplingConfig
from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.samplers.annotated_pair import AnnotatedPairSampler
from vlfew.data.samplers.class_balanced import ClassBalancedSampler
from vlfew.data.samplers.episodic import EpisodicSampler
from vlfew.data.samplers.pair import PairSampler

SAMPLERS = {
    "classes": ClassBalancedSampler,
    "pairs": PairSampler,
    "episodes": EpisodicSampler,
    "annotated_pairs": AnnotatedPairSampler,
}
"""By the form of the batch, see `SamplingConfig`."""


class Sampler(Protocol):
    """Draws training batches."""

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same in every process and at every call."""
        ...


def make_sampler(data: LabeledImages, split: str, sampling: SamplingConfig, seed: int) -> Sampler:
    """The batch sampler of a configuration.

    Raises:
        DataError: the split has too few classes, pairs or groups for it, or images of several objects.
    """
    data.require_labels("training on classes")
    sampler: Sampler = SAMPLERS[sampling.form](data, split, seed=seed, **sampling.options())
    return sampler
