"""Draws of support, validation and queries: disjoint, nested, and independent of the other options."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.fakes import dots
from vlfew.core.errors import DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.adaptation.support_sampling import (
    Draw,
    Splits,
    classes_with_enough,
    draw_classes,
    draw_images,
)

SIZES = [9, 7, 12, 8]
LABELS = [c for c, size in enumerate(SIZES) for _ in range(size)]


def by_image() -> LabeledImages:
    """Five images of each class are training, the others test."""
    data = dots(LABELS)
    first = torch.tensor([n for n, c in enumerate(LABELS) if LABELS[:n].count(c) < 5])
    rest = torch.tensor([n for n in range(len(LABELS)) if n not in first.tolist()])
    return LabeledImages(
        **{**vars(data), "splits": {"train": first, "test": rest}, "split_by": "image", "class_texts": ()}
    )


def one(
    shots: int, held_out: int, seed: int, splits: Splits | None = None, max_queries: int | None = None
) -> Draw:
    splits = splits or Splits(dots(LABELS), "test", "test")
    return draw_images(splits, torch.arange(4), shots, held_out, seed, max_queries)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(0, 2), st.integers(0, 99))
def test_support_validation_and_queries_are_disjoint(shots: int, held_out: int, seed: int) -> None:
    draw = one(shots, held_out, seed)
    for c in range(4):
        support, validation = draw.support[c].tolist(), draw.held_out[c].tolist()
        queries = draw.query[draw.target == c].tolist()
        assert (len(support), len(validation)) == (shots, held_out)
        assert sorted(support + validation + queries) == [n for n, label in enumerate(LABELS) if label == c]


def test_support_depends_on_the_seed_and_the_class_alone() -> None:
    full = one(4, 2, 7)
    assert full.support[:, :2].equal(one(2, 0, 7).support)
    assert not full.support.equal(one(4, 2, 8).support)
    splits = Splits(dots(LABELS), "test", "test")
    some = draw_images(splits, torch.tensor([1, 3]), 4, 2, 7)
    assert some.support.equal(full.support[[1, 3]])
    halved = full.select_classes(torch.tensor([3, 1]))
    assert halved.classes.tolist() == [1, 3] and halved.support.equal(some.support)
    assert halved.query.equal(some.query) and halved.target.equal(some.target)


def test_queries_of_another_split() -> None:
    data = by_image()
    draw = one(3, 1, 0, Splits(data, "train", "test"))
    train, test = data.splits["train"].tolist(), data.splits["test"].tolist()
    for c in range(4):
        support = [train[p] for p in (*draw.support[c].tolist(), *draw.held_out[c].tolist())]
        queries = [test[p] for p in draw.query[draw.target == c].tolist()]
        assert {LABELS[n] for n in support + queries} == {c} and len(set(support)) == 4
        assert sorted(queries) == [n for n in test if LABELS[n] == c]


def test_the_number_of_queries_is_limited() -> None:
    draw, full = one(2, 0, 0, max_queries=12), one(2, 0, 0)
    assert draw.target.bincount().tolist() == [3] * 4
    assert set(draw.query.tolist()) < set(full.query.tolist())
    assert one(2, 0, 0, max_queries=1).target.bincount().tolist() == [1] * 4


def test_validation_uses_at_most_as_many_images_as_shots() -> None:
    draw = one(4, 4, 0, Splits(dots([0] * 9 + [1] * 9 + [2] * 9 + [3] * 9), "test", "test"))
    positions, target = draw.validation(1)
    assert positions.equal(draw.held_out[:, 0]) and target.tolist() == [0, 1, 2, 3]
    assert draw.validation(16)[0].equal(draw.held_out.flatten())


def test_a_class_with_too_few_images() -> None:
    splits = Splits(dots(LABELS), "test", "test")
    assert classes_with_enough(splits, 4, 2, "error").tolist() == [0, 1, 2, 3]
    message = r"class 's1' has 7 images in split 'test', but 4 shots, 3 for validation and 1 query need 8"
    with pytest.raises(DataError, match=message):
        classes_with_enough(splits, 4, 3, "error")
    with pytest.raises(DataError, match=r"'s1' has 7 .* \(and 1 more class has too few\)"):
        classes_with_enough(splits, 8, 0, "error")
    with pytest.raises(DataError, match=r"'s0' has 9 .* \(and 2 more classes have too few\)"):
        classes_with_enough(splits, 10, 0, "error")
    assert classes_with_enough(splits, 8, 0, "skip").tolist() == [0, 2]
    with pytest.raises(DataError, match="at least 2 are needed"):
        classes_with_enough(splits, 11, 0, "skip")
    apart = Splits(by_image(), "train", "test")
    assert len(classes_with_enough(apart, 5, 0, "error")) == 4
    with pytest.raises(DataError, match=r"has 5 images in split 'train'.* need 6"):
        classes_with_enough(apart, 5, 1, "error")


def test_drawn_classes_depend_on_the_seed() -> None:
    classes = torch.arange(0, 40, 2)
    first, again, other = (draw_classes(classes, 5, seed) for seed in (0, 0, 1))
    assert first.equal(again) and not first.equal(other)
    assert (
        first.equal(first.sort().values)
        and len(first.unique()) == 5
        and set(first.tolist()) < set(range(0, 40, 2))
    )
    assert draw_classes(classes, 99, 0).equal(classes)


@pytest.mark.parametrize(("shots", "way_out"), [(10**18, "set shots to"), (3, "skip such classes")])
def test_the_way_out_of_too_many_shots(shots: int, way_out: str) -> None:
    """Also of absurdly many."""
    data = dots([0] * 6 + [1] * 6 + [2] * 3)
    with pytest.raises(DataError, match=way_out):
        classes_with_enough(Splits(data, "test", "test"), shots, 0, "error")
