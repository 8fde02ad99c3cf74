"""Cross attention against loops over episode, class, query and position."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS, Support
from vlfew.similarities import cross_attention as module
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.cross_attention import CrossAttention


def build(channels: int, height: int, width: int, name: str = "cross_attention", **options: object):
    torch.manual_seed(0)
    method = CLASSIFIERS.get(name)(FeatureSpec(1, (channels, height, width)), **options).double()
    for norm in method.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2)
    return method.eval().requires_grad_(False)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(maps: Tensor) -> Features:
    return Features(maps.new_zeros(*maps.shape[:-3], 1), map=maps)


def unit(vector: Tensor) -> Tensor:
    return vector / max(vector.norm().item(), 1e-12)


def attention(method: CrossAttention, own: Tensor, other: Tensor) -> list[float]:
    """Equation 3 on `own [C, m]` beside `other [C, m]`, position by position."""
    m = own.shape[1]
    correlation = [[float(unit(own[:, i]) @ unit(other[:, j])) for j in range(m)] for i in range(m)]
    pooled = torch.tensor([sum(row[j] for row in correlation) / m for j in range(m)], dtype=torch.float64)
    hidden = method.norm((method.narrow.weight @ pooled + method.narrow.bias)[None])[0]
    kernel = (method.widen.weight @ hidden.clamp(min=0) + method.widen.bias).tolist()
    logits = [sum(r * w for r, w in zip(row, kernel, strict=True)) / m for row in correlation]
    powers = [math.exp((x - max(logits)) / method.temperature) for x in logits]
    return [power / sum(powers) for power in powers]


def attended(own: Tensor, weights: list[float]) -> Tensor:
    """The map with residual attention, pooled: `[C]`."""
    return sum(own[:, i] * (1 + w) for i, w in enumerate(weights)) / len(weights)  # type: ignore[return-value]


def score(method: CrossAttention, class_map: Tensor, query_map: Tensor) -> float:
    p, q = class_map.flatten(1), query_map.flatten(1)
    a = attended(p, attention(method, p, q))
    b = attended(q, attention(method, q, p))
    return method.score_scale * float(unit(a) @ unit(b))


def loop_scores(method: CrossAttention, classes: Tensor, queries: Tensor) -> Tensor:
    """`classes [N, C, H, W]` and `queries [Q, C, H, W]` to `[Q, N]`."""
    return torch.tensor([[score(method, c, q) for c in classes] for q in queries], dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (1,), (2, 2)])
@pytest.mark.parametrize("size", [(4, 2, 3), (5, 1, 1), (3, 3, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"batch_norm": False, "reduction": 2, "temperature": 0.3, "scale": 2.0}]
)
def test_scores_match_a_loop(lead: tuple[int, ...], size: tuple[int, int, int], options: dict[str, object]):
    method = build(*size, **options)
    class_id = torch.tensor([1, 0, 2, 1, 2, 2])
    support, queries = random(*lead, 6, *size), random(*lead, 4, *size, seed=1)
    scores = method.fit(Support(of(support), class_id, 3)).score(of(queries))
    assert scores.shape == (*lead, 4, 3)
    for at in itertools.product(*(range(n) for n in lead)):
        means = torch.stack([support[at][class_id == c].mean(0) for c in range(3)])
        torch.testing.assert_close(scores[at], loop_scores(method, means, queries[at]))


def test_few_bytes_and_any_layout_give_the_same(monkeypatch):
    method, size = build(4, 2, 3), (4, 2, 3)
    support, queries = random(3, 5, *size), random(3, 11, *size, seed=1)
    fitted = Support(of(support), torch.arange(5), 5)
    once = method.fit(fitted).score(of(queries))
    pairs = method.pair(of(support[0]), of(queries[0, :5]))
    laid = queries.movedim(2, -1).contiguous().movedim(-1, 2)
    assert not laid.is_contiguous()
    torch.testing.assert_close(method.score(of(laid)), once)
    monkeypatch.setattr(module, "WORKING_BYTES", {"cpu": 20_000})
    torch.testing.assert_close(method.fit(fitted).score(of(queries)), once)
    torch.testing.assert_close(method.pair(of(support[0]), of(queries[0, :5])), pairs)


def test_pair_is_what_a_class_of_one_image_scores():
    method, a, b = build(4, 2, 2), random(6, 4, 2, 2), random(6, 4, 2, 2, seed=1)
    expected = loop_scores(method, a, b).diagonal()
    torch.testing.assert_close(method.pair(of(a), of(b)), expected)
    torch.testing.assert_close(method.pair(of(b), of(a)), expected)  # either may be the class


def test_half_precision_maps_are_read_in_the_precision_of_the_weights():
    method, size = build(4, 2, 3).float(), (4, 2, 3)
    support, queries = random(3, *size).half(), random(5, *size, seed=1).half()
    scores = method.fit(Support(of(support), torch.arange(3), 3)).score(of(queries))
    assert scores.dtype == torch.float32
    exact = loop_scores(method.double(), support.double(), queries.double())
    torch.testing.assert_close(scores.double(), exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients(batch_norm: bool):
    method = build(3, 2, 2, batch_norm=batch_norm, temperature=0.5).train().requires_grad_()
    support, queries = random(2, 2, 3, 2, 2).requires_grad_(), random(2, 3, 3, 2, 2, seed=1).requires_grad_()

    def scores(support: Tensor, queries: Tensor, *_: Tensor) -> Tensor:
        return method.fit(Support(of(support), torch.arange(2), 2)).score(of(queries))

    assert torch.autograd.gradcheck(scores, (support, queries, *method.parameters()))


def test_a_position_without_activity_gives_numbers_and_gradients():
    method = build(3, 2, 2).requires_grad_()
    maps = torch.zeros(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    scores = method.pair(of(maps), of(maps))
    scores.sum().backward()
    assert torch.equal(scores, torch.zeros_like(scores)) and maps.grad.isfinite().all()


def test_the_correlations_never_exist():
    channels, side, q, n = 8, 16, 40, 10
    method = CrossAttention(FeatureSpec(1, (channels, side, side))).eval()
    support, queries = torch.randn(n, channels, side, side), torch.randn(q, channels, side, side)
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        method.fit(Support(of(support), torch.arange(n), n)).score(of(queries))
    largest = max(event.cpu_memory_usage for event in profile.events())
    m = side * side
    assert 0 < largest <= 8 * q * n * m * 4 < q * n * m * m * 4


def transductive_by_loop(
    method: CrossAttention, support: Tensor, class_id: Tensor, queries: Tensor, taken: int, rounds: int
) -> Tensor:
    classes = torch.stack([support[class_id == c].mean(0) for c in range(3)])
    scores = loop_scores(method, classes, queries)
    for number in range(1, rounds + 1):
        best, given = scores.max(1)
        surest = sorted(range(len(queries)), key=lambda q: -best[q].item())[: taken * number]
        classes = torch.stack(
            [
                torch.stack([*support[class_id == c], *(queries[q] for q in surest if given[q] == c)]).mean(0)
                for c in range(3)
            ]
        )
        scores = loop_scores(method, classes, queries)
    return scores


@pytest.mark.parametrize(("share", "rounds", "taken"), [(35 / 75, 2, 3), (0.1, 1, 1), (1.0, 2, 7)])
def test_transductive_scores_match_a_loop(share: float, rounds: int, taken: int):
    size = (4, 2, 2)
    method = build(*size, name="cross_attention_transductive", share=share, rounds=rounds)
    class_id = torch.tensor([0, 1, 2, 2])
    support, queries = random(2, 4, *size), random(2, 7, *size, seed=1)
    scores = method.fit(Support(of(support), class_id, 3)).score(of(queries))
    for e in range(2):
        expected = transductive_by_loop(method, support[e], class_id, queries[e], taken, rounds)
        torch.testing.assert_close(scores[e], expected)
    plain = build(*size).fit(Support(of(support), class_id, 3)).score(of(queries))
    assert not torch.allclose(plain, scores)


@pytest.mark.parametrize("bad", [{"temperature": 0}, {"scale": -1.0}, {"reduction": 0}])
def test_bad_options_are_refused(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        build(2, 1, 1, **bad)


@pytest.mark.parametrize("bad", [{"share": 0.0}, {"share": 1.5}, {"rounds": 0}])
def test_bad_rounds_are_refused(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=r"cross_attention_transductive's (share|rounds) is .*; it must be"):
        build(2, 1, 1, name="cross_attention_transductive", **bad)


def test_a_space_without_maps_is_refused_in_one_line():
    with pytest.raises(
        VlfewError, match=r"cross_attention needs features\.map, which this model does not give"
    ) as e:
        CrossAttention(FeatureSpec(16))
    assert "\n" not in str(e.value)
