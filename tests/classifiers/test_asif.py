"""ASIF's relative representations by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlfew.classifiers.asif import Anchors, relative
from vlfew.core.errors import ConfigError


def items(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_most_similar_anchors_are_raised_to_a_power() -> None:
    # 0.8^2 = 0.64 and 0.6^2 = 0.36 remain, of length sqrt(0.5392).
    found = relative(torch.tensor([[0.6, 0.5, 0.8, -0.9]]), sparsity=2, exponent=2.0)
    assert found.tolist() == [pytest.approx([0.36 / 0.5392**0.5, 0, 0.64 / 0.5392**0.5, 0])]


def test_negative_cosines_are_not_made_similar_by_an_even_power() -> None:
    found = relative(torch.tensor([[0.5, -0.9, -0.1], [-0.1, -0.2, -0.3]]), sparsity=3, exponent=2.0)
    assert found.tolist() == [[1, 0, 0], [0, 0, 0]]


@given(data=st.data())
@settings(max_examples=50)
def test_relative_matches_a_loop(data: st.DataObject) -> None:
    anchors = data.draw(st.integers(1, 9))
    k, p = data.draw(st.integers(1, anchors)), data.draw(st.sampled_from([0.5, 1.0, 3.0, 8.0]))
    cosines = torch.tanh(items(2, 3, anchors, seed=data.draw(st.integers(0, 99))))
    found = relative(cosines, k, p).flatten(0, 1)
    for row, expected in zip(found.tolist(), cosines.flatten(0, 1).tolist(), strict=True):
        least = sorted(expected)[-k]
        expected_row = [max(v, 0.0) ** p if v >= least else 0.0 for v in expected]
        length = sum(v * v for v in expected_row) ** 0.5
        assert row == pytest.approx([v / length if length else 0.0 for v in expected_row])


def test_small_cosines_give_unit_vectors_too() -> None:
    small = torch.tensor([[0.01, 0.005, -0.2], [0.0, -0.1, -0.2]])
    assert relative(small, 2, 8.0).norm(dim=-1).tolist() == pytest.approx([1.0, 0.0])


def test_images_and_texts_are_comparable_by_their_anchors() -> None:
    """Spaces of other sizes and directions: an anchor's image is most similar to its own text."""
    anchors = Anchors(items(20, 6), items(20, 9, seed=1))
    images = anchors.relative_images(anchors.images, 5, 8.0)
    texts = anchors.relative_texts(anchors.texts, 5, 8.0)
    assert (images @ texts.T).argmax(1).tolist() == list(range(20))


def test_anchors_can_be_added_and_removed() -> None:
    few = Anchors(items(3, 6), items(3, 9))
    more = few.add(items(2, 6, seed=1), items(2, 9, seed=1))
    assert (len(few), len(more)) == (3, 5)
    fewer = more.remove(torch.tensor([0, 3]))
    assert torch.equal(fewer.images, more.images[[1, 2, 4]])
    assert torch.equal(fewer.texts, more.texts[[1, 2, 4]])
    back = more.remove(torch.tensor([3, 4]))
    query = items(4, 6, seed=2)
    assert torch.equal(back.relative_images(query, 2, 3.0), few.relative_images(query, 2, 3.0))


def test_invalid_anchors_and_settings() -> None:
    with pytest.raises(ConfigError, match="3 images and 2 texts"):
        Anchors(items(3, 6), items(2, 9))
    anchors = Anchors(items(3, 6), items(3, 9))
    with pytest.raises(ConfigError, match="uses the 4 most similar anchors and has 3; use more anchors"):
        anchors.relative_images(items(2, 6), 4, 8.0)
    with pytest.raises(ConfigError, match=r"asif's exponent is 0\.0"):
        anchors.relative_texts(items(2, 9), 2, 0.0)
