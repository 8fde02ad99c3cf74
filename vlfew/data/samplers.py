"""From the configuration's `sampling` to what draws the batches."""

from __future__ import annotations

from typing import Protocol

from vlfew.config import Sampling
from vlfew.data.batch import Batch
from vlfew.data.given_pairs import GivenPairSampler
from vlfew.data.images import LabelledImages
from vlfew.data.pair_sampler import PairSampler
from vlfew.data.sampler import ClassBalancedSampler
from vlfew.data.task_sampler import TaskSampler


class Sampler(Protocol):
    """Draws batches by number."""

    def batch(self, number: int) -> Batch:
        """Batch `number`, the same whenever and wherever it is asked for."""
        ...


def make_sampler(data: LabelledImages, split: str, sampling: Sampling, seed: int) -> Sampler:
    """The sampler of a configuration.

    Raises:
        DataError: the split has too few classes, pairs or groups for it.
    """
    kind = {
        "classes": ClassBalancedSampler,
        "pairs": PairSampler,
        "tasks": TaskSampler,
        "given_pairs": GivenPairSampler,
    }[sampling.form]
    sampler: Sampler = kind(data, split, seed=seed, **sampling.options())
    return sampler
