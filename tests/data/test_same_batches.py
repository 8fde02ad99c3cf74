"""The batches of a seed are the same in every version, so that an interrupted run can be resumed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import make_data
from vlfew.core.config import SamplingConfig
from vlfew.data.samplers import make_sampler


@pytest.mark.parametrize(
    ("small", "sampling", "expected"),
    [
        (False, {"classes_per_batch": 4, "images_per_class": 3}, "a6b29baf64d143c7"),
        (False, {"classes_per_batch": 10, "images_per_class": 9}, "6dfb1a7658e2e790"),
        (False, {"classes_per_batch": 6, "images_per_class": 2, "groups_per_batch": 2}, "abacfcaebeab0090"),
        (False, {"classes_per_batch": 10, "images_per_class": 2, "groups_per_batch": 2}, "308e911bd2522161"),
        (
            False,
            {"classes_per_batch": 5, "images_per_class": 4, "extra_text_negatives": 4},
            "fe7d0b5659f425c6",
        ),
        (
            False,
            {"classes_per_batch": 5, "images_per_class": 4, "distinct_sources": False},
            "1fef80d8afc87b98",
        ),
        (
            False,
            {"pairs_per_batch": 12, "groups_per_batch": 2, "extra_text_negatives": 3},
            "ee050e527a7d4de0",
        ),
        (False, {"episodes_per_batch": 4, "ways": 3, "groups_per_batch": 2}, "7197d80e11b9d65e"),
        (False, {"pairs_per_batch": 12}, "181a3732efe1b100"),
        (False, {"episodes_per_batch": 3, "ways": 5, "distinct_sources": False}, "b54a355623beb9c4"),
        (True, {"classes_per_batch": 4, "images_per_class": 3}, "43eece7ae3778c57"),
        (
            True,
            {"classes_per_batch": 4, "images_per_class": 5, "min_images_per_class": 5},
            "1fb87ca4a6af5e57",
        ),
    ],
)
def test_batches_equal_those_of_earlier_versions(
    small: bool, sampling: dict[str, Any], expected: str
) -> None:
    data = make_data(classes=36, groups=4)
    data = replace(data, class_texts=tuple(("a", "b", "c")[: 1 + c % 3] for c in range(36)))
    if small:  # some classes have fewer images, and there are only two sources
        data = replace(data, source_id=data.source_id % 2, splits={"train": data.splits["train"][3:-2]})
    checksum = hashlib.sha256()
    sampler = make_sampler(data, "train", SamplingConfig(**sampling), 7)
    for number in range(20):
        batch = sampler.batch(number)
        for tensor in (
            batch.index,
            batch.labels,
            batch.text_classes,
            batch.text_choice,
            *(batch.pairs or ()),
        ):
            checksum.update(str((tensor.dtype, tensor.tolist())).encode())
    assert checksum.hexdigest()[:16] == expected
