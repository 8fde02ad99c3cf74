"""Backbones without shared weights: similarities and methods against loops over both directions."""

from __future__ import annotations

import itertools

import pytest
import torch

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import SupportSet
from vlfew.classifiers.unshared import UnsharedMethod
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.base import Similarity
from vlfew.similarities.cosine import Cosine
from vlfew.similarities.unshared import UnsharedSimilarity

NAMES = [name for name in SIMILARITIES.names() if not SIMILARITIES.get(name).needs_map]


def items(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def similarity(name: str) -> Similarity:
    torch.manual_seed(0)
    return SIMILARITIES.get(name)(FeatureSpec(4)).double()


def method(name: str) -> FewShotMethod:
    torch.manual_seed(0)
    return CLASSIFIERS.get(name)(FeatureSpec(4)).double()


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_the_mean_of_both_directions_and_symmetric(name):
    inner = similarity(name)
    unshared = UnsharedSimilarity(inner)
    a, b = items(5, 8), items(5, 8, seed=1)
    found = unshared.pairwise(Features(a), Features(b))
    for row in range(5):
        directions = [(a[row, :4], b[row, 4:]), (b[row, :4], a[row, 4:])]
        scores = [inner.pairwise(Features(x[None]), Features(y[None])).item() for x, y in directions]
        assert found[row].item() == pytest.approx(sum(scores) / 2)
    assert torch.equal(found, unshared.pairwise(Features(b), Features(a)))
    torch.testing.assert_close(unshared.matrix(Features(a), Features(b)).diagonal(), found)


@pytest.mark.parametrize("name", [*NAMES, "prototypes"])
def test_logits_are_the_mean_of_both_directions(name):
    inner, class_id = method(name), torch.tensor([0, 1, 1, 2, 0])
    support, queries = items(2, 5, 8), items(2, 3, 8, seed=1)
    found = UnsharedMethod(inner).fit(SupportSet(Features(support), class_id, 3)).logits(Features(queries))
    assert found.shape == (2, 3, 3)
    left, right = slice(0, 4), slice(4, 8)
    for e in range(2):
        directions = []
        for of_query, of_support in ((left, right), (right, left)):
            fitted = inner.fit(SupportSet(Features(support[e, :, of_support]), class_id, 3))
            directions.append(fitted.logits(Features(queries[e, :, of_query])))
        torch.testing.assert_close(found[e], sum(directions) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_one_item_per_class_is_scored_as_a_pair(name):
    unshared = UnsharedSimilarity(similarity(name))
    support, queries = items(3, 8), items(4, 8, seed=1)
    fitted = UnsharedMethod(method(name)).fit(SupportSet(Features(support), torch.arange(3), 3))
    logits = fitted.logits(Features(queries))
    for q, c in itertools.product(range(4), range(3)):
        pair = unshared.pairwise(Features(queries[q : q + 1]), Features(support[c : c + 1]))
        assert logits[q, c].item() == pytest.approx(pair.item())


def test_feature_maps_are_rejected():
    class OfMaps(Cosine):
        needs_map = True

    with pytest.raises(ConfigError, match=r"OfMaps needs feature maps, .* image\.share_weights: true"):
        UnsharedSimilarity(OfMaps(FeatureSpec(4)))
    with pytest.raises(ConfigError, match="CrossAttention needs feature maps"):
        UnsharedMethod(CLASSIFIERS.get("cross_attention")(FeatureSpec(4, (4, 1, 1))))


def test_requirements_are_those_of_the_method():
    tip, cosine = UnsharedMethod(method("tip_adapter_f")), UnsharedMethod(method("cosine"))
    assert tip.needs_text and tip.needs_images
    assert not cosine.needs_text and not cosine.needs_images
