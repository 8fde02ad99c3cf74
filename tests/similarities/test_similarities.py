"""Similarities against their definitions, coordinate by coordinate."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.support import SupportSet
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.base import Similarity

NAMES = ["cosine", "euclidean", "weighted_l1"]


def build(name: str, dim: int, **options: object) -> Similarity:
    torch.manual_seed(0)
    return SIMILARITIES.get(name)(FeatureSpec(dim), **options).double().eval()


def items(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(similarity: Similarity | None, name: str, a: Tensor, b: Tensor) -> float:
    a, b = a.tolist(), b.tolist()
    if name == "cosine":
        dot, aa, bb = (sum(x * y for x, y in zip(*p, strict=True)) for p in ((a, b), (a, a), (b, b)))
        return dot / (aa**0.5 * bb**0.5)
    if name == "euclidean":
        return -sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    alpha, bias = similarity.linear.weight[0].tolist(), similarity.linear.bias.item()
    return sum(w * abs(x - y) for w, x, y in zip(alpha, a, b, strict=True)) + bias


@pytest.mark.parametrize("name", NAMES)
def test_pairwise_and_matrix_match_a_loop(name: str) -> None:
    similarity, a, b = build(name, 3), items(2, 4, 3), items(2, 5, 3, seed=1)
    matrix = similarity.matrix(Features(a), Features(b))
    assert torch.equal(similarity(a, b), matrix) and torch.equal(similarity(Features(a), Features(b)), matrix)
    assert matrix.shape == (2, 4, 5)
    for e, i, j in itertools.product(range(2), range(4), range(5)):
        assert matrix[e, i, j].item() == pytest.approx(by_definition(similarity, name, a[e, i], b[e, j]))
    pairs = similarity.pairwise(Features(a[0]), Features(b[1, :4]))
    assert pairs.tolist() == pytest.approx(
        [by_definition(similarity, name, a[0, i], b[1, i]) for i in range(4)]
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduce", ["mean", "max"])
@given(data=st.data())
@settings(max_examples=20)
def test_a_class_is_scored_by_the_mean_or_maximum_over_its_items(
    name: str, reduce: str, data: st.DataObject
) -> None:
    n, dim, q = (data.draw(st.integers(1, m)) for m in (4, 6, 5))
    extra = data.draw(st.lists(st.integers(0, n - 1), max_size=6))
    class_id = torch.tensor(data.draw(st.permutations([*range(n), *extra])))
    torch.manual_seed(0)
    method = CLASSIFIERS.get(name)(FeatureSpec(dim), reduce=reduce).double()
    support, queries = items(len(class_id), dim), items(q, dim, seed=1)
    logits = method.fit(SupportSet(Features(support), class_id, n)).logits(Features(queries))
    assert logits.shape == (q, n)
    for row, c in itertools.product(range(q), range(n)):
        own = [by_definition(method.similarity, name, queries[row], s) for s in support[class_id == c]]
        expected = max(own) if reduce == "max" else sum(own) / len(own)
        assert logits[row, c].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_pairwise_is_the_diagonal_of_matrix_and_has_its_gradient(name: str) -> None:
    similarity = build(name, 5)
    a, b = items(7, 5).requires_grad_(), items(7, 5, seed=1).requires_grad_()
    inputs = [a, b, *similarity.parameters()]
    pairs = similarity.pairwise(Features(a), Features(b))
    diagonal = similarity.matrix(Features(a), Features(b)).diagonal()
    torch.testing.assert_close(pairs, diagonal)
    for x, y in zip(
        torch.autograd.grad(pairs.square().sum(), inputs),
        torch.autograd.grad(diagonal.square().sum(), inputs),
        strict=True,
    ):
        assert (x - y).norm() <= 1e-9 * y.norm()


@pytest.mark.parametrize("sign", [1, -1])
def test_weighted_l1_with_weights_of_one_sign(sign: int) -> None:
    similarity = build("weighted_l1", 4)
    similarity.linear.weight.data.abs_().mul_(sign)
    a, b = Features(items(3, 4)), Features(items(3, 4, seed=1))
    torch.testing.assert_close(similarity.matrix(a, b).diagonal(), similarity.pairwise(a, b))


def test_weighted_l1_never_holds_all_differences() -> None:
    q, s, dim = 400, 400, 256
    similarity = SIMILARITIES.get("weighted_l1")(FeatureSpec(dim))
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        similarity.matrix(Features(torch.zeros(q, dim)), Features(torch.zeros(s, dim)))
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest <= 8 * q * s * 4 < q * s * dim * 4


class Dot(Similarity):
    """A similarity in one file, for the registry."""

    def pairwise(self, a: Features, b: Features) -> Tensor:
        return (a.embedding * b.embedding).sum(-1)

    def matrix(self, queries: Features, items: Features) -> Tensor:
        return queries.embedding @ items.embedding.mT


def test_a_new_similarity_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (SIMILARITIES, CLASSIFIERS):  # the second contains the first when it is built
        monkeypatch.setitem(registry.entries, "dot", f"{__name__}:Dot")
    assert CLASSIFIERS.checked("dot", {"reduce": "max"}) == {"reduce": "max"}
    support = SupportSet(Features(torch.tensor([[1.0, 0], [0, 1], [0, 3]])), torch.tensor([0, 1, 1]), 2)
    method = CLASSIFIERS.get("dot")(FeatureSpec(2), reduce="max").fit(support)
    assert method.logits(Features(torch.tensor([[2.0, 1]]))).tolist() == [[2, 3]]


def test_registered_similarities_are_methods_too() -> None:
    assert CLASSIFIERS.names()[: len(SIMILARITIES.names())] == SIMILARITIES.names()
