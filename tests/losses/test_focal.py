"""Focal loss on pairs, and the collapse of distances that go through a sigmoid."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from tests.compare import assert_close
from tests.losses.conftest import LABELS, build, encoded
from vlfew.core.errors import ConfigError, ModelError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses.batch import BatchPairs, EncodedBatch, balanced_mean
from vlfew.similarities import SIMILARITIES

COLLAPSING = {"temperature": 1.0, "bias": -1.0, "learned": False}
"""Over cosines: p = sigmoid(-(1 - cos)), a distance in [0, 2] through a sigmoid."""


def cosine(dim=8):
    return SIMILARITIES.get("cosine")(FeatureSpec(dim))


def support_sets(tasks=8, ways=10):
    """One-shot tasks: a query and its supports, of which the first is the match; all images free."""
    torch.manual_seed(0)
    images = torch.randn(tasks * (1 + ways), 8).requires_grad_()
    first = torch.arange(tasks)[:, None] * (1 + ways)
    i = first.expand(tasks, ways).flatten()
    j = (first + 1 + torch.arange(ways)).flatten()
    return images, BatchPairs(i, j, (j - i) == 1)


def of_pairs(images, pairs):
    return EncodedBatch(
        Features(images), torch.zeros(len(images)).long(), similarity=cosine(), sampled_pairs=pairs
    )


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 0.0), (0.25, 2.0), (0.9, 0.5)])
def test_is_lin_eq_5_balanced(alpha, gamma):
    batch = encoded(LABELS)
    i, j, same = batch.pairs
    p = torch.sigmoid(batch.similarity.pairwise(batch.image[i], batch.image[j]) / 0.3 + 0.2).tolist()
    kinds = {True: [], False: []}
    for p_same, is_same in zip(p, same.tolist(), strict=True):
        p_t, alpha_t = (p_same, alpha) if is_same else (1 - p_same, 1 - alpha)
        kinds[is_same].append(-alpha_t * (1 - p_t) ** gamma * math.log(p_t))
    expected = sum(sum(losses) / len(losses) for losses in kinds.values()) / 2
    loss = build("focal", alpha=alpha, gamma=gamma, temperature=0.3, bias=0.2)(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_agrees_with_torchvision_pair_by_pair():
    batch = encoded(LABELS)
    term = build("focal", alpha=0.25)
    same = batch.pairs.same
    each = sigmoid_focal_loss(term.logits(batch), same.float(), alpha=0.25, gamma=2)
    assert_close(term(batch), balanced_mean(each, same))


def test_without_focus_it_is_half_the_cross_entropy():
    batch = encoded(LABELS)
    expected = build("binary_cross_entropy", scale=10)(batch) / 2
    assert_close(build("focal", gamma=0)(batch), expected)


def test_pairs_beyond_doubt_have_finite_gradients_for_any_gamma():
    for gamma in (0.0, 0.5, 2.0):
        x = torch.tensor([[1.0, 0], [1, 0], [-1, 0]], requires_grad=True)
        batch = EncodedBatch(Features(x), torch.tensor([0, 0, 1]), similarity=cosine(2))
        loss = build("focal", gamma=gamma, temperature=0.01)(batch)
        loss.backward()
        assert loss.isfinite() and x.grad.isfinite().all()


def test_a_distance_through_a_sigmoid_never_predicts_same():
    """The cause of the collapse: whatever the vectors, the probability of different is 1/2 or more."""
    term = build("focal", **COLLAPSING)
    x = torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0]])
    batch = EncodedBatch(Features(x), torch.tensor([0, 0, 1, 2]), similarity=cosine(2))
    different = torch.sigmoid(-term.logits(batch))
    distance = [0, 1, 2, 1, 2, 1]  # 1 - cos, of pairs 01 02 03 12 13 23
    assert_close(different, torch.sigmoid(torch.tensor(distance).float()))
    assert different.min() >= 0.5 and different.max() < 0.881
    # Two equal images of one class cannot be paid for: the loss has a floor.
    equal = EncodedBatch(Features(x[:2]), torch.tensor([0, 0]), similarity=cosine(2))
    assert term(equal).item() == pytest.approx(0.5 * 0.25 * math.log(2) / 2)


@pytest.mark.parametrize(
    ("options", "says_same"), [(COLLAPSING, 0.0), ({}, 1.0)], ids=["distance", "learned scale and bias"]
)
def test_training_to_the_end_calls_all_pairs_different_or_tells_them_apart(options, says_same):
    """The same vectors, free to go anywhere; one of ten pairs is the match."""
    images, pairs = support_sets()
    term = build("focal", **options)
    optimizer = torch.optim.Adam([images, *(p for p in term.parameters() if p.requires_grad)], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        term(of_pairs(images, pairs)).backward()
        optimizer.step()
    same = term.logits(of_pairs(images, pairs)) > 0
    assert same[pairs.same].float().mean() == says_same
    assert not same[~pairs.same].any()


def test_scale_and_bias_are_learned_by_default():
    batch = encoded(LABELS)
    term = build("focal")
    term(batch).backward()
    assert term.scale.log.grad != 0 and term.bias.grad != 0
    assert not any(p.requires_grad for p in build("focal", learned=False).parameters())


def test_it_needs_a_similarity():
    with pytest.raises(ModelError, match="needs a model with a similarity"):
        build("focal")(EncodedBatch(Features(torch.eye(2)), torch.tensor([0, 1])))


@pytest.mark.parametrize(
    ("option", "value", "range"),
    [
        ("alpha", -0.1, "from 0 to 1"),
        ("alpha", 1.5, "from 0 to 1"),
        ("alpha", math.nan, "from 0 to 1"),
        ("gamma", -1.0, "0 or more"),
        ("gamma", math.inf, "0 or more"),
        ("gamma", math.nan, "0 or more"),
    ],
)
def test_options_out_of_range_are_named(option, value, range):
    with pytest.raises(ConfigError, match=f"^{option} is {value}; it must be a number {range}$"):
        build("focal", **{option: value})
