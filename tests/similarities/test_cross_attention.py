"""Cross attention against loops over episodes, classes, queries and positions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from tests.compare import assert_close, relative_difference
from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.similarity_classifier import SimilarityClassifier
from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities import cross_attention as module
from vlfew.similarities.cross_attention import CrossAttention


def build(channels: int, height: int, width: int, **options: object) -> CrossAttention:
    torch.manual_seed(0)
    similarity = CrossAttention(FeatureSpec(1, (channels, height, width)), **options).double()
    if isinstance(similarity.norm, torch.nn.BatchNorm1d):
        similarity.norm.running_mean.uniform_(-0.1, 0.1)
        similarity.norm.running_var.uniform_(0.5, 2)
    return similarity.eval().requires_grad_(False)


def logits_of(similarity: CrossAttention, support: Tensor, class_id: Tensor, queries: Tensor) -> Tensor:
    """Of the few-shot method over a similarity."""
    fitted = SimilarityClassifier(similarity).fit(SupportSet(of(support), class_id, int(class_id.max()) + 1))
    return fitted.logits(of(queries))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(maps: Tensor) -> Features:
    return Features(maps.new_zeros(*maps.shape[:-3], 1), map=maps)


def unit(vector: Tensor) -> Tensor:
    return vector / max(vector.norm().item(), 1e-12)


def attention(similarity: CrossAttention, own: Tensor, other: Tensor) -> list[float]:
    """Equation 3: attention of `own [C, m]` given `other [C, m]`, position by position."""
    m = own.shape[1]
    correlation = [[float(unit(own[:, i]) @ unit(other[:, j])) for j in range(m)] for i in range(m)]
    pooled = torch.tensor([sum(row[j] for row in correlation) / m for j in range(m)], dtype=torch.float64)
    hidden = similarity.norm((similarity.narrow.weight @ pooled + similarity.narrow.bias)[None])[0]
    kernel = (similarity.widen.weight @ hidden.clamp(min=0) + similarity.widen.bias).tolist()
    logits = [sum(r * w for r, w in zip(row, kernel, strict=True)) / m for row in correlation]
    powers = [math.exp((x - max(logits)) / similarity.temperature) for x in logits]
    return [power / sum(powers) for power in powers]


def attended(own: Tensor, weights: list[float]) -> Tensor:
    """The map with residual attention, pooled: `[C]`."""
    return sum(own[:, i] * (1 + w) for i, w in enumerate(weights)) / len(weights)  # type: ignore[return-value]


def score(similarity: CrossAttention, class_map: Tensor, query_map: Tensor) -> float:
    p, q = class_map.flatten(1), query_map.flatten(1)
    a = attended(p, attention(similarity, p, q))
    b = attended(q, attention(similarity, q, p))
    return similarity.score_scale * float(unit(a) @ unit(b))


def loop_scores(similarity: CrossAttention, classes: Tensor, queries: Tensor) -> Tensor:
    """`classes [N, C, H, W]` and `queries [Q, C, H, W]` to `[Q, N]`."""
    return torch.tensor([[score(similarity, c, q) for c in classes] for q in queries], dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (1,), (2, 2)])
@pytest.mark.parametrize("size", [(4, 2, 3), (5, 1, 1), (3, 3, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"batch_norm": False, "reduction": 2, "temperature": 0.3, "scale": 2.0}]
)
def test_scores_match_a_loop(lead: tuple[int, ...], size: tuple[int, int, int], options: dict[str, object]):
    similarity = build(*size, **options)
    class_id = torch.tensor([1, 0, 2, 1, 2, 2])
    support, queries = random(*lead, 6, *size), random(*lead, 4, *size, seed=1)
    scores = logits_of(similarity, support, class_id, queries)
    assert scores.shape == (*lead, 4, 3)
    for at in itertools.product(*(range(n) for n in lead)):
        means = torch.stack([support[at][class_id == c].mean(0) for c in range(3)])
        assert_close(scores[at], loop_scores(similarity, means, queries[at]))


def test_chunk_size_and_memory_layout_do_not_matter(monkeypatch):
    similarity, size = build(4, 2, 3), (4, 2, 3)
    support, queries = random(3, 5, *size), random(3, 11, *size, seed=1)
    class_id = torch.arange(5)
    once = logits_of(similarity, support, class_id, queries)
    pairs = similarity.pairwise(of(support[0]), of(queries[0, :5]))
    channels_last = queries.movedim(2, -1).contiguous().movedim(-1, 2)
    assert not channels_last.is_contiguous()
    assert_close(logits_of(similarity, support, class_id, channels_last), once)
    monkeypatch.setattr(module, "CHUNK_BYTES", {"cpu": 20_000})
    assert_close(logits_of(similarity, support, class_id, queries), once)
    assert_close(similarity.pairwise(of(support[0]), of(queries[0, :5])), pairs)


def test_pairwise_is_the_score_of_a_class_of_one_image():
    similarity, a, b = build(4, 2, 2), random(6, 4, 2, 2), random(6, 4, 2, 2, seed=1)
    expected = loop_scores(similarity, a, b).diagonal()
    assert_close(similarity.pairwise(of(a), of(b)), expected)
    assert_close(similarity.pairwise(of(b), of(a)), expected)  # either may be the class


def test_half_precision_maps_are_computed_in_the_precision_of_the_weights():
    similarity, size = build(4, 2, 3).float(), (4, 2, 3)
    support, queries = random(3, *size).half(), random(5, *size, seed=1).half()
    scores = logits_of(similarity, support, torch.arange(3), queries)
    assert scores.dtype == torch.float32
    exact = loop_scores(similarity.double(), support.double(), queries.double())
    assert_close(scores.double(), exact, tolerance=1e-4)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients(batch_norm: bool):
    similarity = build(3, 2, 2, batch_norm=batch_norm, temperature=0.5).train().requires_grad_()
    support, queries = random(2, 2, 3, 2, 2).requires_grad_(), random(2, 3, 3, 2, 2, seed=1).requires_grad_()

    def scores(support: Tensor, queries: Tensor, *_: Tensor) -> Tensor:
        return logits_of(similarity, support, torch.arange(2), queries)

    assert torch.autograd.gradcheck(scores, (support, queries, *similarity.parameters()))


def test_positions_of_zeros_give_finite_scores_and_gradients():
    similarity = build(3, 2, 2).requires_grad_()
    maps = torch.zeros(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    scores = similarity.pairwise(of(maps), of(maps))
    scores.sum().backward()
    assert torch.equal(scores, torch.zeros_like(scores)) and maps.grad.isfinite().all()


def test_the_correlations_are_never_built():
    channels, side, q, n = 8, 16, 40, 10
    similarity = CrossAttention(FeatureSpec(1, (channels, side, side))).eval()
    support, queries = torch.randn(n, channels, side, side), torch.randn(q, channels, side, side)
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        logits_of(similarity, support, torch.arange(n), queries)
    largest = max(event.cpu_memory_usage for event in profile.events())
    m = side * side
    assert 0 < largest <= 8 * q * n * m * 4 < q * n * m * m * 4


def transductive(similarity: CrossAttention, **options: object) -> FewShotMethod:
    spec = FeatureSpec(1, (1, 1, 1))
    return CLASSIFIERS.get("cross_attention_transductive")(spec, similarity, **options)


def transductive_by_loop(
    similarity: CrossAttention, support: Tensor, class_id: Tensor, queries: Tensor, added: int, rounds: int
) -> Tensor:
    classes = torch.stack([support[class_id == c].mean(0) for c in range(3)])
    scores = loop_scores(similarity, classes, queries)
    for number in range(1, rounds + 1):
        confidence, predicted = scores.max(1)
        chosen = sorted(range(len(queries)), key=lambda q: -confidence[q].item())[: added * number]
        classes = torch.stack(
            [
                torch.stack(
                    [*support[class_id == c], *(queries[q] for q in chosen if predicted[q] == c)]
                ).mean(0)
                for c in range(3)
            ]
        )
        scores = loop_scores(similarity, classes, queries)
    return scores


@pytest.mark.parametrize(("share", "rounds", "added"), [(35 / 75, 2, 3), (0.1, 1, 1), (1.0, 2, 7)])
def test_transductive_scores_match_a_loop(share: float, rounds: int, added: int):
    size = (4, 2, 2)
    similarity = build(*size)
    method = transductive(similarity, share=share, rounds=rounds)
    class_id = torch.tensor([0, 1, 2, 2])
    support, queries = random(2, 4, *size), random(2, 7, *size, seed=1)
    scores = method.fit(SupportSet(of(support), class_id, 3)).logits(of(queries))
    for e in range(2):
        expected = transductive_by_loop(similarity, support[e], class_id, queries[e], added, rounds)
        assert_close(scores[e], expected)
    assert relative_difference(logits_of(similarity, support, class_id, queries), scores) > 1e-3


@pytest.mark.parametrize("bad", [{"temperature": 0}, {"scale": -1.0}, {"reduction": 0}])
def test_options_out_of_range(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        build(2, 1, 1, **bad)


@pytest.mark.parametrize("bad", [{"share": 0.0}, {"share": 1.5}, {"rounds": 0}])
def test_transductive_options_out_of_range(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=r"cross_attention_transductive's (share|rounds) is .*; it must be"):
        transductive(build(2, 1, 1), **bad)


def test_a_model_without_maps_is_rejected_in_one_line():
    with pytest.raises(
        VlfewError, match=r"cross_attention needs features\.map, which this model does not provide"
    ) as e:
        CrossAttention(FeatureSpec(16))
    assert "\n" not in str(e.value)
