"""Batches from the DataLoader: those of the sampler, from any number on, in any number of processes."""

from __future__ import annotations

import io
import multiprocessing
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import make_data
from vlfew.core.config import AugmentConfig, SamplingConfig
from vlfew.core.errors import DataError
from vlfew.data.augmentation import BatchAugment
from vlfew.data.image_stores import DecodedOnDemand
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.samplers import make_sampler
from vlfew.training.batches import BatchLoader

AUGMENT = BatchAugment(AugmentConfig(rotate=20, translate=0.1), 0)
CPU = torch.device("cpu")


def loader(data: LabeledImages, **options: Any) -> BatchLoader:
    sampler = make_sampler(data, "train", SamplingConfig(classes_per_batch=3, images_per_class=4), 7)
    return BatchLoader(data, sampler, AUGMENT, None, CPU, **options)


def decoded_on_demand(data: LabeledImages, broken: int | None = None) -> LabeledImages:
    """The same images as PNG files in memory, decoded when they are needed."""
    files = []
    for number, image in enumerate(data.images.batch(torch.arange(len(data.images)))):
        file = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(file, "PNG")
        files.append(file.getvalue()[:20] if number == broken else file.getvalue())
    return replace(data, images=DecodedOnDemand(files, ImagePreprocessor(16, 1)))


def test_batches_are_those_of_the_sampler_from_any_number_on() -> None:
    data = make_data()
    own = loader(data)
    assert own.num_workers == 0 and own.resident is None  # nothing extra where the set is in memory
    everything = list(own.batches(0, 6))
    assert [batch.number for batch in everything] == [0, 1, 2, 3, 4, 5]
    for batch in everything:
        expected = own.dataset.sampler.batch(batch.number)
        assert torch.equal(batch.images, data.images.batch(expected.index))
        assert torch.equal(batch.labels.labels, expected.labels)
        assert torch.equal(batch.pixels(), AUGMENT(batch.images, batch.number, 12, 0))
    for first, again in zip(everything[4:], own.batches(4, 6), strict=True):
        assert torch.equal(first.pixels(), again.pixels())


def test_processes_share_each_batch() -> None:
    data = make_data()
    (whole,) = loader(data).batches(3, 4)
    shares = [next(loader(data, rank=rank, world_size=2).batches(3, 4)) for rank in range(2)]
    assert torch.equal(torch.cat([share.pixels() for share in shares]), whole.pixels())
    assert all(torch.equal(share.labels.labels, whole.labels.labels) for share in shares)


def test_images_decoded_on_demand_are_decoded_by_worker_processes() -> None:
    data = make_data()
    on_demand = loader(decoded_on_demand(data))
    assert on_demand.num_workers > 0
    before = torch.get_rng_state()
    with closing(on_demand.batches(2, 50)) as batches:
        for expected in loader(data).batches(2, 5):
            assert torch.equal(next(batches).pixels(), expected.pixels())
        assert len(multiprocessing.active_children()) == on_demand.num_workers
    assert not multiprocessing.active_children()  # none outlives the training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_one_line(num_workers: int) -> None:
    data = make_data()
    broken = int(data.indices("train")[0])
    with pytest.raises(DataError, match=rf"image\[{broken}\]") as error:
        list(loader(decoded_on_demand(data, broken), num_workers=num_workers).batches(0, 20))
    assert "\n" not in str(error.value)
