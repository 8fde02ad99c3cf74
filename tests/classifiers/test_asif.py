"""ASIF's relative vectors by hand."""

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


def test_the_likest_anchors_raised_to_a_power_by_hand() -> None:
    # 0.8^2 = 0.64 and 0.6^2 = 0.36 are kept, of length sqrt(0.5392).
    found = relative(torch.tensor([[0.6, 0.5, 0.8, -0.9]]), sparsity=2, exponent=2.0)
    assert found.tolist() == [pytest.approx([0.36 / 0.5392**0.5, 0, 0.64 / 0.5392**0.5, 0])]


def test_what_is_unlike_is_not_made_alike_by_an_even_power() -> None:
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
        kept = [max(v, 0.0) ** p if v >= least else 0.0 for v in expected]
        length = sum(v * v for v in kept) ** 0.5
        assert row == pytest.approx([v / length if length else 0.0 for v in kept])


def test_images_and_words_meet_in_their_anchors() -> None:
    """Two spaces of other sizes and directions: what lies at an anchor of one is alike to its partner."""
    anchors = Anchors(items(20, 6), items(20, 9, seed=1))
    images = anchors.of_images(anchors.images, 5, 8.0)
    words = anchors.of_words(anchors.words, 5, 8.0)
    assert (images @ words.T).argmax(1).tolist() == list(range(20))


def test_anchors_are_added_and_removed_at_will() -> None:
    few = Anchors(items(3, 6), items(3, 9))
    more = few.add(items(2, 6, seed=1), items(2, 9, seed=1))
    assert (len(few), len(more)) == (3, 5)
    fewer = more.remove(torch.tensor([0, 3]))
    assert torch.equal(fewer.images, more.images[[1, 2, 4]])
    assert torch.equal(fewer.words, more.words[[1, 2, 4]])
    back = more.remove(torch.tensor([3, 4]))
    query = items(4, 6, seed=2)
    assert torch.equal(back.of_images(query, 2, 3.0), few.of_images(query, 2, 3.0))


def test_what_anchors_cannot_be() -> None:
    with pytest.raises(ConfigError, match="3 images and 2 words"):
        Anchors(items(3, 6), items(2, 9))
    anchors = Anchors(items(3, 6), items(3, 9))
    with pytest.raises(ConfigError, match="keeps the 4 likest anchors and has 3; give more anchors"):
        anchors.of_images(items(2, 6), 4, 8.0)
    with pytest.raises(ConfigError, match=r"asif's exponent is 0\.0"):
        anchors.of_words(items(2, 9), 2, 0.0)
