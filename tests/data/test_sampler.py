import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_data
from vlfew.core.errors import DataError
from vlfew.data.samplers.class_balanced import ClassBalancedSampler


@given(
    classes=st.integers(2, 4),
    images=st.integers(1, 9),
    number=st.integers(0, 10**6),
    seed=st.integers(0, 99),
)
def test_a_batch_is_class_balanced_and_reproducible(classes, images, number, seed):
    data = make_data()
    batch = ClassBalancedSampler(data, "train", classes, images, seed=seed).batch(number)
    again = ClassBalancedSampler(data, "train", classes, images, seed=seed).batch(number)
    assert torch.equal(batch.index, again.index) and torch.equal(batch.text_classes, again.text_classes)
    assert len(batch.text_classes.unique()) == classes
    assert torch.equal(data.labels[batch.index], batch.labels)
    assert set(batch.labels.tolist()) == set(batch.text_classes.tolist())
    assert set(batch.index.tolist()) <= set(data.indices("train").tolist())
    for c in batch.text_classes.tolist():
        chosen = batch.index[batch.labels == c]
        assert len(chosen.unique()) == min(images, 6)  # images repeat only if a class has too few


def test_different_numbers_and_seeds_give_different_batches(tiny):
    sampler = ClassBalancedSampler(tiny, "train", 3, 3, seed=0)
    other = ClassBalancedSampler(tiny, "train", 3, 3, seed=1)
    assert not torch.equal(sampler.batch(0).index, sampler.batch(1).index)
    assert not torch.equal(sampler.batch(0).index, other.batch(0).index)


def test_all_images_are_drawn_about_equally(tiny):
    sampler = ClassBalancedSampler(tiny, "train", 2, 3, seed=0)
    counts = torch.cat([sampler.batch(n).index for n in range(2000)]).bincount()[tiny.indices("train")]
    expected = 2000 * 6 / len(tiny.indices("train"))
    assert (counts - expected).abs().max() < 5 * expected**0.5


def test_groups_have_equal_parts_of_a_batch():
    data = make_data(classes=36, groups=4)
    sampler = ClassBalancedSampler(data, "train", 4, 2, groups_per_batch=2, seed=0)
    for number in range(50):
        groups = data.class_group[sampler.batch(number).text_classes]
        assert sorted(groups.bincount()[groups.unique()].tolist()) == [2, 2]


def test_small_groups_are_filled_up_with_other_classes():
    data = make_data(classes=36, groups=4)
    batch = ClassBalancedSampler(data, "train", 10, 2, groups_per_batch=2, seed=0).batch(0)
    assert len(batch.text_classes.unique()) == 10


def test_images_of_a_class_come_from_distinct_sources(tiny):
    sampler = ClassBalancedSampler(tiny, "train", 4, 5, seed=3)
    for number in range(20):
        batch = sampler.batch(number)
        for c in batch.text_classes.tolist():
            assert len(tiny.source_id[batch.index[batch.labels == c]].unique()) == 5


@pytest.mark.parametrize(("extra", "texts"), [(0, 2), (1, 3), (99, 4)])
def test_extra_text_negatives_are_training_classes(tiny, extra, texts):
    batch = ClassBalancedSampler(tiny, "train", 2, 3, extra_text_negatives=extra, seed=0).batch(0)
    assert len(batch.text_classes.unique()) == len(batch.text_choice) == texts
    assert (
        set(batch.labels.tolist()) <= set(batch.text_classes.tolist()) <= set(tiny.classes("train").tolist())
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"classes_per_batch": 99, "images_per_class": 1},
            r"tiny: split 'train' has 4 classes, and sampling.classes_per_batch needs 99",
        ),
        ({"classes_per_batch": 4, "images_per_class": 1, "groups_per_batch": 2}, "no groups of classes"),
    ],
)
def test_impossible_batches_are_rejected(tiny, arguments, message):
    with pytest.raises(DataError, match=message):
        ClassBalancedSampler(tiny, "train", **arguments)


def test_classes_must_divide_by_groups():
    with pytest.raises(
        DataError, match=r"sampling.classes_per_batch=5 is not a multiple of sampling.groups_per_batch=2"
    ):
        ClassBalancedSampler(make_data(classes=36, groups=4), "train", 5, 2, groups_per_batch=2)
