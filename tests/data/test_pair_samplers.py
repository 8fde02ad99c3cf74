"""Batches of pairs, episodes and annotated pairs: their content, and that it depends on seed and number only."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.conftest import make_data
from vlfew.core.config import SamplingConfig
from vlfew.core.errors import DataError
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.data.samplers import make_sampler
from vlfew.data.samplers.annotated_pair import AnnotatedPairSampler
from vlfew.data.samplers.episodic import EpisodicSampler
from vlfew.data.samplers.pair import PairSampler


def image_pairs(data: LabeledImages, batch) -> list[tuple[int, int, bool]]:
    """The two images of each pair, and whether they are labeled as the same class."""
    i, j, same = batch.pairs
    return list(zip(batch.index[i].tolist(), batch.index[j].tolist(), same.tolist(), strict=True))


def equal(one, other) -> bool:
    both = (
        (one.index, other.index),
        (one.text_choice, other.text_choice),
        *zip(one.pairs, other.pairs, strict=True),
    )
    return all(torch.equal(a, b) for a, b in both)


@given(half=st.integers(1, 40), number=st.integers(0, 10**6), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_pairs_are_balanced_correct_and_reproducible(half, number, seed):
    data = make_data()
    batch = PairSampler(data, "train", pairs_per_batch=2 * half, seed=seed).batch(number)
    again = PairSampler(data, "train", pairs_per_batch=2 * half, seed=seed).batch(number)
    assert equal(batch, again)
    assert len(batch.index) == 4 * half and torch.equal(data.labels[batch.index], batch.labels)
    assert set(batch.index.tolist()) <= set(data.indices("train").tolist())
    drawn = image_pairs(data, batch)
    assert sum(same for *_, same in drawn) == half == len(drawn) // 2
    for a, b, same in drawn:
        assert (data.labels[a] == data.labels[b]).item() == same
        assert a != b and data.source_id[a] != data.source_id[b]
    assert set(batch.text_classes.tolist()) == set(batch.labels.tolist())


def test_classes_are_drawn_equally_often(tiny):
    sampler = PairSampler(tiny, "train", pairs_per_batch=16)
    for number in range(20):
        drawn = image_pairs(tiny, sampler.batch(number))
        same_pairs = Counter(int(tiny.labels[a]) for a, _, same in drawn if same)
        assert sorted(same_pairs.values()) == [2, 2, 2, 2]


def test_the_only_image_of_a_class_is_paired_with_itself():
    data = replace(make_data(images=1), source_id=None)
    for a, b, same in image_pairs(data, PairSampler(data, "train", pairs_per_batch=20).batch(0)):
        assert (a == b) == same


def test_small_classes_can_be_excluded(tiny):
    # The third class has one image.
    remaining = torch.cat([tiny.splits["train"][:13], tiny.splits["train"][18:]])
    data = replace(tiny, splits={"train": remaining})
    batch = PairSampler(data, "train", pairs_per_batch=40, min_images_per_class=2).batch(0)
    assert len(batch.labels.unique()) == 3
    assert len(PairSampler(data, "train", pairs_per_batch=40).batch(0).labels.unique()) == 4


def test_distinct_sources_can_be_disabled(tiny):
    two = replace(tiny, source_id=tiny.source_id % 2)
    distinct = image_pairs(two, PairSampler(two, "train", pairs_per_batch=200).batch(0))
    assert all(two.source_id[a] != two.source_id[b] for a, b, _ in distinct)
    any_source = image_pairs(
        two, PairSampler(two, "train", pairs_per_batch=200, distinct_sources=False).batch(0)
    )
    assert any(two.source_id[a] == two.source_id[b] for a, b, _ in any_source)
    assert all(a != b for a, b, _ in any_source)


def test_images_differ_even_with_one_source(tiny):
    one = replace(tiny, source_id=torch.zeros_like(tiny.source_id))
    assert all(a != b for a, b, _ in image_pairs(one, PairSampler(one, "train", pairs_per_batch=40).batch(0)))


def test_pairs_are_within_one_group():
    data = make_data(classes=36, groups=4)
    for number in range(30):
        batch = PairSampler(data, "train", pairs_per_batch=24, groups_per_batch=2, seed=0).batch(number)
        groups = Counter()
        for a, b, same in image_pairs(data, batch):
            group = {int(data.class_group[data.labels[n]]) for n in (a, b)}
            assert len(group) == 1
            groups[group.pop(), same] += 1
        assert sorted(groups.values()) == [6, 6, 6, 6]


@given(episodes=st.integers(1, 12), ways=st.integers(2, 4), number=st.integers(0, 10**6))
@settings(max_examples=40)
def test_an_episode_has_one_match_among_different_classes(episodes, ways, number):
    data = make_data()
    sampler = EpisodicSampler(data, "train", episodes_per_batch=episodes, ways=ways, seed=1)
    batch = sampler.batch(number)
    assert equal(batch, sampler.batch(number))
    assert len(batch.index) == episodes * (1 + ways)
    i, j, same = (t.view(episodes, ways) for t in batch.pairs)
    for t in range(episodes):
        query = batch.index[t]
        assert i[t].tolist() == [t] * ways
        support = batch.index[j[t]]
        assert len(data.labels[support].unique()) == ways
        assert same[t].tolist() == [True] + [False] * (ways - 1)
        assert data.labels[support[0]] == data.labels[query] and support[0] != query
        assert all(data.source_id[s] != data.source_id[query] for s in support)
    assert j.flatten().tolist() == list(range(episodes, episodes * (1 + ways)))


def test_episodes_are_within_one_group():
    data = make_data(classes=36, groups=4)
    batch = EpisodicSampler(data, "train", episodes_per_batch=6, ways=3, groups_per_batch=2).batch(5)
    i, j, _ = (t.view(6, 3) for t in batch.pairs)
    groups = []
    for t in range(6):
        group = data.class_group[batch.labels[torch.cat([i[t, :1], j[t]])]].unique()
        assert len(group) == 1
        groups.append(int(group))
    assert groups[0] != groups[1] and groups == groups[:2] * 3


@pytest.mark.parametrize(("extra", "texts"), [(0, 2), (1, 3), (99, 4)])
def test_extra_text_negatives(tiny, extra, texts):
    batch = EpisodicSampler(tiny, "train", episodes_per_batch=1, ways=2, extra_text_negatives=extra).batch(0)
    assert len(batch.text_classes.unique()) == len(batch.text_choice) == texts
    assert (
        set(batch.labels.tolist()) <= set(batch.text_classes.tolist()) <= set(tiny.classes("train").tolist())
    )


def with_pairs(same: int, different: int) -> LabeledImages:
    """Images with annotated pairs; each image has its own label, so that using labels would be detected."""
    count = 2 * (same + different)
    is_same = torch.arange(same + different) < same
    pairs = Pairs(
        torch.arange(count)[::2], torch.arange(count)[1::2], is_same, torch.zeros(count // 2, 2).long()
    )
    return LabeledImages(
        name="annotated",
        images=InMemory(torch.zeros(count, 1, 8, 8, dtype=torch.uint8)),
        labels=torch.arange(count),
        class_names=tuple(map(str, range(count))),
        splits={"train": torch.arange(count)},
        fingerprint="annotated",
        pairs={"train": pairs},
    )


def test_annotated_pairs_come_from_the_data_without_labels():
    data = with_pairs(30, 50)
    sampler, seen = AnnotatedPairSampler(data, "train", annotated_pairs_per_batch=20, seed=4), set()
    for number in range(40):
        batch = sampler.batch(number)
        assert equal(batch, sampler.batch(number))
        drawn = image_pairs(data, batch)
        assert len(set(drawn)) == 20 and sum(same for *_, same in drawn) == 10
        assert all(b == a + 1 and a % 2 == 0 and same == (a < 60) for a, b, same in drawn)
        assert batch.labels.tolist() == [-1] * 40 and len(batch.text_classes) == 0
        seen |= set(drawn)
    assert len(seen) == 80


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (
            {"pairs_per_batch": 4, "min_images_per_class": 9},
            r"0 classes of 9 images or more, and sampling\.pairs_per_batch needs 2",
        ),
        (
            {"episodes_per_batch": 2, "ways": 5},
            r"tiny: split 'train' has 4 classes, and sampling\.ways needs 5; set sampling\.ways=4 or fewer",
        ),
        (
            {"pairs_per_batch": 4, "groups_per_batch": 1},
            r"no groups of classes; leave sampling\.groups_per_batch unset",
        ),
        ({"annotated_pairs_per_batch": 4}, r"tiny as configured has no annotated training pairs"),
    ],
)
def test_impossible_batches_are_rejected(tiny, sampling, message):
    with pytest.raises(DataError, match=message) as error:
        make_sampler(tiny, "train", SamplingConfig(**sampling), 0)
    assert "\n" not in str(error.value)


def test_a_single_class_is_counted_in_the_singular(tiny):
    single = replace(tiny, splits={"train": next(iter(tiny.by_class("train").values()))})
    with pytest.raises(DataError, match=r"has 1 class, and sampling\.pairs_per_batch needs 2$"):
        PairSampler(single, "train", pairs_per_batch=4)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (
            {"pairs_per_batch": 4, "groups_per_batch": 3},
            r"needs one of each from every group; set sampling\.pairs_per_batch=6 or more",
        ),
        (
            {"episodes_per_batch": 2, "ways": 2, "groups_per_batch": 3},
            r"at least one episode each; set sampling\.episodes_per_batch=3 or more",
        ),
    ],
)
def test_a_batch_too_small_for_its_groups_is_rejected(sampling, message):
    data = make_data(classes=36, groups=4)
    with pytest.raises(DataError, match=message) as error:
        make_sampler(data, "train", SamplingConfig(**sampling), 0)
    assert "\n" not in str(error.value)
    batch = make_sampler(data, "train", SamplingConfig(**sampling | {"groups_per_batch": 2}), 0).batch(0)
    assert len(data.class_group[batch.labels].unique()) == 2


def test_too_few_groups_or_annotated_pairs_are_counted():
    with pytest.raises(
        DataError, match=r"has 4 groups of 3 classes or more .*set sampling\.groups_per_batch=4"
    ):
        make_sampler(
            make_data(classes=36, groups=4),
            "train",
            SamplingConfig(episodes_per_batch=1, ways=3, groups_per_batch=5),
            0,
        )
    with pytest.raises(DataError, match=r"3 same training pairs and 9 different ones.*set it to 6 or fewer"):
        make_sampler(with_pairs(3, 9), "train", SamplingConfig(annotated_pairs_per_batch=8), 0)
    with pytest.raises(DataError, match="both kinds are needed"):
        make_sampler(with_pairs(3, 0), "train", SamplingConfig(annotated_pairs_per_batch=2), 0)


@pytest.mark.parametrize(
    ("values", "form", "size"),
    [
        ({}, "classes", 256),
        ({"images_per_class": 2}, "classes", 128),
        ({"pairs_per_batch": 200}, "pairs", 400),
        ({"episodes_per_batch": 20, "ways": 10}, "episodes", 220),
        ({"annotated_pairs_per_batch": 64}, "annotated_pairs", 128),
    ],
)
def test_one_form_and_its_size(values, form, size):
    sampling = SamplingConfig(**values)
    assert (sampling.form, sampling.batch_size) == (form, size)
    assert SamplingConfig(**sampling.model_dump()) == sampling  # as saved in a run folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"pairs_per_batch": 4, "classes_per_batch": 3},
            "one form: classes_per_batch and images_per_class or pairs_per_batch; "
            "set the keys of the other forms to null",
        ),
        ({"episodes_per_batch": 4}, "episodes_per_batch and ways go together"),
        ({"ways": 4, "pairs_per_batch": 2}, "one form: pairs_per_batch or episodes_per_batch and ways"),
        ({"pairs_per_batch": 3}, "multiple of 2"),
        ({"episodes_per_batch": 3, "ways": 1}, "greater than or equal to 2"),
        (
            {"annotated_pairs_per_batch": 4, "groups_per_batch": 2},
            "annotated_pairs_per_batch cannot be combined",
        ),
        (
            {"annotated_pairs_per_batch": 4, "distinct_sources": True},
            "annotated_pairs_per_batch cannot be combined",
        ),
        (
            {"annotated_pairs_per_batch": 4, "min_images_per_class": 2},
            "annotated_pairs_per_batch cannot be combined",
        ),
    ],
)
def test_mixed_forms_are_rejected(values, message):
    with pytest.raises(ValidationError, match=message):
        SamplingConfig(**values)
