"""Scorers against plain loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS, IMAGE, TEXT, FewShotMethod, Support
from vlfew.classifiers.multimodal_prototypes import with_text
from vlfew.classifiers.support import images_with_words
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec

SIMILARITIES = ["cosine", "euclidean", "weighted_l1"]


def build(name: str, dim: int, **options: object) -> FewShotMethod:
    torch.manual_seed(0)
    return CLASSIFIERS.get(name)(FeatureSpec(dim, (dim, 1, 1)), **options).double().eval()


def items(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair_similarity(method: FewShotMethod, name: str, a: Tensor, b: Tensor) -> float:
    """By the definition, coordinate by coordinate."""
    a, b = a.tolist(), b.tolist()
    if name == "cosine":
        dot, aa, bb = (sum(x * y for x, y in zip(*p, strict=True)) for p in ((a, b), (a, a), (b, b)))
        return dot / (aa**0.5 * bb**0.5)
    if name == "euclidean":
        return -sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    alpha, bias = method.linear.weight[0].tolist(), method.linear.bias.item()
    return sum(w * abs(x - y) for w, x, y in zip(alpha, a, b, strict=True)) + bias


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("reduce", ["mean", "max"])
@given(data=st.data())
@settings(max_examples=20)
def test_similarities_match_a_loop(name: str, reduce: str, data: st.DataObject) -> None:
    n, dim, q = (data.draw(st.integers(1, m)) for m in (4, 6, 5))
    extra = data.draw(st.lists(st.integers(0, n - 1), max_size=6))
    class_id = torch.tensor(data.draw(st.permutations([*range(n), *extra])))
    method = build(name, dim, reduce=reduce)
    support, queries = items(len(class_id), dim), items(q, dim, seed=1)
    scores = method.fit(Support(Features(support), class_id, n)).score(Features(queries))
    assert scores.shape == (q, n)
    for row, c in itertools.product(range(q), range(n)):
        of_class = [pair_similarity(method, name, queries[row], s) for s in support[class_id == c]]
        expected = max(of_class) if reduce == "max" else sum(of_class) / len(of_class)
        assert scores[row, c].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_pair_is_the_diagonal_of_matrix_and_has_its_gradient(name: str) -> None:
    method = build(name, 5)
    a, b = items(7, 5).requires_grad_(), items(7, 5, seed=1).requires_grad_()
    inputs = [a, b, *method.parameters()]
    pair, diagonal = method.pair(Features(a), Features(b)), method.matrix(a, b).diagonal()
    torch.testing.assert_close(pair, diagonal)
    for x, y in zip(
        torch.autograd.grad(pair.square().sum(), inputs),
        torch.autograd.grad(diagonal.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("sign", [1, -1])
def test_weighted_l1_with_weights_of_one_sign(sign: int) -> None:
    method = build("weighted_l1", 4)
    method.linear.weight.data.abs_().mul_(sign)
    a, b = items(3, 4), items(3, 4, seed=1)
    torch.testing.assert_close(method.matrix(a, b).diagonal(), method.pair(Features(a), Features(b)))


def test_weighted_l1_never_holds_all_differences() -> None:
    q, s, dim = 400, 400, 256
    method = CLASSIFIERS.get("weighted_l1")(FeatureSpec(dim))
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        method.matrix(torch.zeros(q, dim), torch.zeros(s, dim))
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest <= 8 * q * s * 4 < q * s * dim * 4


def loop_prototype(rows: Tensor, metric: str) -> Tensor:
    if metric == "euclidean":
        return torch.stack(list(rows)).mean(0)
    mean = torch.stack([r / r.norm() for r in rows]).mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_prototypes_match_a_loop(metric: str) -> None:
    class_id = torch.tensor([2, 0, 1, 0, 2, 2])
    support, queries = items(6, 3), items(4, 3, seed=1)
    method = build("prototypes", 3, metric=metric)
    scores = method.fit(Support(Features(support), class_id, 3)).score(Features(queries))
    for q, c in itertools.product(range(4), range(3)):
        mean = loop_prototype(support[class_id == c], metric)
        expected = pair_similarity(method, metric, queries[q], mean)
        assert scores[q, c].item() == pytest.approx(expected)
    own = method.pair(Features(queries), Features(queries.flip(0)))[0]
    assert own.item() == pytest.approx(pair_similarity(method, metric, queries[0], queries[3]))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_images_and_words_mix_what_each_class_has(weight: float) -> None:
    class_id = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    modality = torch.tensor([IMAGE, TEXT, IMAGE, TEXT, IMAGE, TEXT, TEXT])
    support, queries = items(7, 5), items(4, 5, seed=1)
    method = build("multimodal_prototypes", 5, text_weight=weight)
    scores = method.fit(Support(Features(support), class_id, 3, modality)).score(Features(queries))
    mixed = (1 - weight) * loop_prototype(support[[0, 2]], "cosine")
    mixed = mixed + weight * loop_prototype(support[[1, 3]], "cosine")
    expected = [mixed, support[4], loop_prototype(support[5:], "cosine")]
    for q, c in itertools.product(range(4), range(3)):
        assert scores[q, c].item() == pytest.approx(
            pair_similarity(method, "cosine", queries[q], expected[c])
        )


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_learned_similarity_keeps_its_own_score_beside_the_words(weight: float) -> None:
    torch.manual_seed(0)
    own = CLASSIFIERS.get("cross_attention")(FeatureSpec(5, (5, 2, 2)), temperature=0.5).eval()
    maps, words = torch.randn(7, 5, 2, 2), torch.randn(3, 5)
    shown, asked = (Features(m.mean((2, 3)), map=m) for m in (maps[:3], maps[3:]))
    class_id = torch.arange(3)
    both = Support(
        images_with_words(shown, words), class_id.repeat(2), 3, torch.tensor([IMAGE] * 3 + [TEXT] * 3)
    )
    scores = with_text(own, FeatureSpec(5), weight).fit(both).score(asked)
    alone = own.fit(Support(shown, class_id, 3)).score(asked)
    for q, c in itertools.product(range(4), range(3)):
        named = torch.cosine_similarity(asked.embedding[q], words[c], dim=0)
        expected = (1 - weight) * alone[q, c] / own.score_scale + weight * named
        assert scores[q, c].item() == pytest.approx(expected.item(), abs=1e-5)


def test_scores_of_both_need_both_of_every_class() -> None:
    torch.manual_seed(0)
    own = CLASSIFIERS.get("cross_attention")(FeatureSpec(5, (5, 2, 2))).eval()
    shown = Features(torch.randn(2, 5), map=torch.randn(2, 5, 2, 2))
    half = images_with_words(shown, torch.randn(1, 5))
    support = Support(half, torch.tensor([0, 1, 1]), 2, torch.tensor([IMAGE, IMAGE, TEXT]), ("cat", "mug"))
    with pytest.raises(
        VlfewError, match="class 'cat' has nothing in the support that the share of the words"
    ):
        with_text(own, FeatureSpec(5), 0.5).fit(support)


def seen(x: Tensor) -> Features:
    """Embeddings, and maps of one position."""
    return Features(x, map=x[..., None, None])


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_many_episodes_in_one_call_are_as_one_by_one(name: str) -> None:
    class_id = torch.tensor([0, 1, 2, 0, 1, 1, 2, 2])
    support, queries = items(2, 3, 8, 4), items(2, 3, 5, 4, seed=1)
    modality = torch.tensor([IMAGE, TEXT, IMAGE, TEXT, IMAGE, TEXT, TEXT, IMAGE])
    method = build(name, 4)
    together = method.fit(Support(seen(support), class_id, 3, modality)).score(seen(queries))
    assert together.shape == (2, 3, 5, 3)
    for i, j in itertools.product(range(2), range(3)):
        alone = method.fit(Support(seen(support[i, j]), class_id, 3, modality))
        torch.testing.assert_close(together[i, j], alone.score(seen(queries[i, j])))


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_a_class_without_items_is_named(name: str) -> None:
    class_id, modality = torch.tensor([0, 0, 2, 2]), torch.tensor([IMAGE, TEXT, IMAGE, TEXT])
    support = Support(seen(items(4, 4)), class_id, 3, modality, ("cat", "dog", "owl"))
    with pytest.raises(VlfewError, match=r"class 'dog' has no(thing| images| words) in the support"):
        build(name, 4).fit(support)


def test_text_weight_outside_its_range() -> None:
    with pytest.raises(ConfigError, match=r"text_weight is 1\.5"):
        build("multimodal_prototypes", 4, text_weight=1.5)


def test_support_of_one_modality_keeps_all_parts_in_step() -> None:
    features = Features(items(2, 3, 4), map=items(2, 3, 5, 1, 1), tokens=items(2, 3, 6, 4))
    support = Support(features, torch.tensor([0, 1, 0]), 2, torch.tensor([TEXT, IMAGE, TEXT]))
    words = support.of(TEXT)
    assert words.class_id.tolist() == [0, 0]
    for part in ("embedding", "map", "tokens"):
        torch.testing.assert_close(getattr(words.features, part), getattr(features, part)[:, [0, 2]])
    means = words.mean_of(words.features.embedding)
    torch.testing.assert_close(means[:, 0], words.features.embedding.mean(1))
    assert (means[:, 1] == 0).all()
