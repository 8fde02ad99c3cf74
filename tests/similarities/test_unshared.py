"""ShareWeights that share no weights: scores against loops over both ways round."""

from __future__ import annotations

import itertools

import pytest
import torch

from vlfew.classifiers import CLASSIFIERS, SIMILARITIES, Support
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import Cosine
from vlfew.similarities.unshared import Unshared

NAMES = [name for name in SIMILARITIES.names() if not SIMILARITIES.get(name).needs_map]


def items(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(name: str) -> tuple[Unshared, torch.nn.Module]:
    torch.manual_seed(0)
    inner = CLASSIFIERS.get(name)(FeatureSpec(4)).double()
    return Unshared(inner), inner


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_the_mean_of_both_ways_round_and_the_same_either_way(name):
    method, inner = build(name)
    a, b = items(5, 8), items(5, 8, seed=1)
    found = method.pair(Features(a), Features(b))
    for row in range(5):
        ways = [(a[row, :4], b[row, 4:]), (b[row, :4], a[row, 4:])]
        pair_similarity = [inner.pair(Features(x[None]), Features(y[None])).item() for x, y in ways]
        assert found[row].item() == pytest.approx(sum(pair_similarity) / 2)
    assert torch.equal(found, method.pair(Features(b), Features(a)))


@pytest.mark.parametrize("name", [*NAMES, "prototypes"])
def test_scores_are_the_mean_of_both_ways_round(name):
    method, inner = build(name)
    class_id = torch.tensor([0, 1, 1, 2, 0])
    support, queries = items(2, 5, 8), items(2, 3, 8, seed=1)
    found = method.fit(Support(Features(support), class_id, 3)).score(Features(queries))
    assert found.shape == (2, 3, 3)
    for e in range(2):
        by_right = inner.fit(Support(Features(support[e, :, 4:]), class_id, 3)).score(
            Features(queries[e, :, :4])
        )
        by_left = inner.fit(Support(Features(support[e, :, :4]), class_id, 3)).score(
            Features(queries[e, :, 4:])
        )
        torch.testing.assert_close(found[e], (by_right + by_left) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_one_item_a_class_scores_as_its_pair(name):
    method, _ = build(name)
    support, queries = items(3, 8), items(4, 8, seed=1)
    scores = method.fit(Support(Features(support), torch.arange(3), 3)).score(Features(queries))
    for q, c in itertools.product(range(4), range(3)):
        pair = method.pair(Features(queries[q : q + 1]), Features(support[c : c + 1]))
        assert scores[q, c].item() == pytest.approx(pair.item())


def test_a_scorer_of_maps_is_refused():
    class OfMaps(Cosine):
        needs_map = True

    with pytest.raises(ConfigError, match=r"OfMaps looks at maps, .* image\.share_weights: true"):
        Unshared(OfMaps(FeatureSpec(4)))


def test_twins_need_what_their_scorer_needs():
    assert build("tip_adapter_f")[0].needs_text and build("tip_adapter_f")[0].needs_images
    assert not build("cosine")[0].needs_text and not build("cosine")[0].needs_images
