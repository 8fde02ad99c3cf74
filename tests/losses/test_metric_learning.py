"""Against pytorch-metric-learning, configured as in the papers where its defaults differ."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from tests.compare import assert_close
from tests.losses.conftest import build, encoded

distances = pytest.importorskip("pytorch_metric_learning.distances")
losses = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_metric_learning")

LABELS = [0, 0, 1, 1, 1, 2, 3, 3]
DISTANCES = [("euclidean", 2, 1), ("squared", 2, 2), ("l1", 1, 1)]
"""Our name, and the norm and power of theirs."""

PURE = {"lambda_start": 0.0, "lambda_end": 0.0}


class SquaredHinge(losses.ContrastiveLoss):
    """Theirs, with each distance squared and halved as Hadsell et al. have it."""

    def get_per_pair_loss(self, pair_dists, pos_or_neg):
        return super().get_per_pair_loss(pair_dists, pos_or_neg).square() / 2


def distance_of(norm, power):
    # Theirs would divide by the norm of the distance, ours always by the Euclidean one: done beforehand.
    return distances.LpDistance(normalize_embeddings=False, p=norm, power=power)


def gradient(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


def assert_same(batch, ours, theirs):
    """In value and in gradient."""
    x = batch.image.embedding
    assert_close(ours, theirs)
    assert_close(gradient(ours, x), gradient(theirs, x))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "norm", "power"), DISTANCES)
def test_contrastive(name, norm, power, seed):
    batch = encoded(LABELS, seed=seed)
    theirs = SquaredHinge(0, 1.5, distance=distance_of(norm, power), reducer=reducers.MeanReducer())
    expected = theirs(normalize(batch.image.embedding), batch.labels) / 2  # the sum of both kinds' means
    assert_same(batch, build("contrastive", margin=1.5, distance=name)(batch), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "norm", "power"), DISTANCES)
@pytest.mark.parametrize("mining", ["all", "batch_hard", "semi_hard"])
def test_triplet(name, norm, power, mining, seed):
    batch, margin = encoded(LABELS, seed=seed), 0.6
    x = normalize(batch.image.embedding)
    metric = distance_of(norm, power)
    miner = {
        "all": lambda *_: None,
        "batch_hard": miners.BatchHardMiner(distance=metric),
        "semi_hard": miners.TripletMarginMiner(margin, "semihard", distance=metric),
    }[mining]
    reducer = reducers.MeanReducer() if mining == "batch_hard" else reducers.AvgNonZeroReducer()
    theirs = losses.TripletMarginLoss(margin, distance=metric, reducer=reducer)
    expected = theirs(x, batch.labels, miner(x.detach(), batch.labels))
    assert_same(batch, build("triplet", margin=margin, distance=name, mining=mining)(batch), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("l_softmax", {"m": 2, **PURE}, lambda c, d: losses.LargeMarginSoftmaxLoss(c, d, margin=2)),
        ("l_softmax", {"m": 4, **PURE}, lambda c, d: losses.LargeMarginSoftmaxLoss(c, d, margin=4)),
        ("sphereface", {"m": 3, **PURE}, lambda c, d: losses.SphereFaceLoss(c, d, margin=3)),
        ("cosface", {}, lambda c, d: losses.CosFaceLoss(c, d)),
        ("arcface", {}, lambda c, d: losses.ArcFaceLoss(c, d, margin=math.degrees(0.5))),
        ("arcface", {"m": 1.4, "s": 9.0}, lambda c, d: losses.ArcFaceLoss(c, d, math.degrees(1.4), 9)),
    ],
    ids=["l_softmax 2", "l_softmax 4", "sphereface", "cosface", "arcface", "arcface wide"],
)
def test_classifiers(name, options, theirs, seed):
    batch = encoded(LABELS, seed=seed)
    ours, oracle = build(name, **options), theirs(4, 8)
    oracle.W.data.copy_(ours.weight.T)
    assert_same(batch, ours(batch), oracle(batch.image.embedding, batch.labels))
    assert_close(
        gradient(ours(batch), ours.weight), gradient(oracle(batch.image.embedding, batch.labels), oracle.W).T
    )
