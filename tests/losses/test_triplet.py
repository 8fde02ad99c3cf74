from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.losses.conftest import LABELS, build, encoded, unit
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features
from vlfew.losses.batch import EncodedBatch

DISTANCES = {
    "euclidean": lambda a, b: (a - b).norm(),
    "squared": lambda a, b: ((a - b) ** 2).sum(),
    "l1": lambda a, b: (a - b).abs().sum(),
}


def by_loops(x, labels, margin, distance, mining):
    """The loss by its definition, over one triplet at a time."""
    count = range(len(labels))
    d = [[DISTANCES[distance](x[i], x[j]).item() for j in count] for i in count]

    def cost(a, p, n):
        gap = d[a][p] - d[a][n]
        return math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)

    triplets = [
        (a, p, n)
        for a, p, n in itertools.product(count, repeat=3)
        if a != p and labels[a] == labels[p] != labels[n]
    ]
    if mining == "all":
        losses = [c for t in triplets if (c := cost(*t)) > 0]
    elif mining == "semi_hard":
        losses = [cost(a, p, n) for a, p, n in triplets if d[a][p] < d[a][n] < d[a][p] + margin]
    else:
        losses = []
        for a in sorted({a for a, _, _ in triplets}):
            far = max((p for _, p, _ in (t for t in triplets if t[0] == a)), key=lambda p: d[a][p])
            near = min((n for _, _, n in (t for t in triplets if t[0] == a)), key=lambda n: d[a][n])
            losses.append(cost(a, far, near))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("mining", ["all", "batch_hard", "semi_hard"])
@pytest.mark.parametrize("distance", list(DISTANCES))
@pytest.mark.parametrize("normalize", [True, False])
def test_is_the_mean_over_its_triplets(mining, distance, normalize):
    batch = encoded(LABELS)
    x = unit(batch.image.embedding) if normalize else batch.image.embedding
    expected = by_loops(x, LABELS, 1.1, distance, mining)
    assert expected > 0
    loss = build("triplet", margin=1.1, distance=distance, mining=mining, normalize=normalize)(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mining", ["all", "batch_hard"])
def test_soft_margin_is_the_softplus_of_the_gap(mining):
    batch = encoded(LABELS)
    expected = by_loops(unit(batch.image.embedding), LABELS, None, "euclidean", mining)
    loss = build("triplet", margin=None, distance="euclidean", mining=mining)(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    mining=st.sampled_from(["all", "batch_hard", "semi_hard"]),
    seed=st.integers(0, 9),
)
def test_any_batch_gives_what_the_loops_give_and_a_finite_gradient(labels, mining, seed):
    batch = encoded(labels, seed=seed)
    loss = build("triplet", margin=0.4, mining=mining)(batch)
    assert loss.item() == pytest.approx(
        by_loops(unit(batch.image.embedding), labels, 0.4, "squared", mining), rel=1e-4, abs=1e-6
    )
    loss.backward()
    assert batch.image.embedding.grad.isfinite().all()


def test_a_satisfied_margin_costs_nothing():
    corners = torch.eye(3).repeat_interleave(2, 0)
    batch = EncodedBatch(Features(corners), torch.tensor([0, 0, 1, 1, 2, 2]))
    for mining in ("all", "batch_hard", "semi_hard"):
        assert build("triplet", mining=mining)(batch) == 0
    assert build("triplet", margin=None)(batch) > 0  # the soft margin keeps pulling


@pytest.mark.parametrize("mining", ["all", "batch_hard", "semi_hard"])
def test_close_vectors_far_from_the_origin_keep_their_distances(mining):
    """As products of matrices they would be lost in rounding."""
    near = encoded(LABELS).image.embedding.detach() * 0.01
    labels = torch.tensor(LABELS)
    term = build("triplet", margin=0.02, distance="euclidean", mining=mining, normalize=False)
    moved = term(EncodedBatch(Features(near + 100), labels))
    assert moved.item() == pytest.approx(term(EncodedBatch(Features(near), labels)).item(), rel=1e-2)


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_equal_vectors_and_finite_differences_under_mining(mining):
    term = build("triplet", margin=1.0, distance="euclidean", mining=mining)
    same = torch.ones(4, 8, requires_grad=True)
    term(EncodedBatch(Features(same), torch.tensor([0, 0, 1, 1]))).backward()
    assert same.grad.isfinite().all()
    x = encoded(LABELS, dim=3, dtype=torch.float64).image.embedding
    assert torch.autograd.gradcheck(lambda x: term(EncodedBatch(Features(x), torch.tensor(LABELS))), (x,))


def test_semi_hard_needs_a_margin():
    with pytest.raises(ConfigError, match=r"^mining: semi_hard uses triplets within a margin; margin must"):
        build("triplet", margin=None, mining="semi_hard")
