"""Search against sorting all cosines in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers.multimodal_prototypes import MultimodalPrototypes
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet
from vlfew.core.features import Features, FeatureSpec
from vlfew.evaluation.templates import make_templates
from vlfew.gallery import exact_search
from vlfew.gallery.exact_search import HALF_ERROR, ExactSearch


def clustered(rows: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(max(1, rows // 20), dim, generator=generator)
    at = torch.randint(len(centers), (rows,), generator=generator)
    return normalize(centers[at] + 0.3 * torch.randn(rows, dim, generator=generator), dim=1)


def best(vectors: Tensor, owners: Tensor, query: Tensor, k: int) -> tuple[list[int], list[float]]:
    """The k best owners by their best row, plainly."""
    scores: dict[int, float] = {}
    for owner, score in zip(owners.tolist(), (vectors.double() @ query.double()).tolist(), strict=True):
        scores[owner] = max(score, scores.get(owner, -2.0))
    order = sorted(scores, key=lambda owner: -scores[owner])[:k]
    return order, [scores[owner] for owner in order]


def agrees(search: ExactSearch, vectors: Tensor, owners: Tensor, queries: Tensor, k: int) -> None:
    for part in (queries, queries[:1]):  # several at once, and one
        scores, found = search.search(part, k)
        for n, query in enumerate(part):
            _, expected = best(vectors, owners, query, k)
            assert scores[n].tolist() == pytest.approx(expected, abs=2e-6)
            real = dict(zip(*best(vectors, owners, query, len(owners)), strict=True))
            assert [real[owner] for owner in found[n].tolist()] == pytest.approx(expected, abs=2e-6)
            assert len(set(found[n].tolist())) == len(expected)


@pytest.mark.parametrize("rows", [1, 5, 63, 64, 65, 640, 3000])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_the_best_of_one_row_each(rows: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_search, "BLOCK", 512)
    vectors, owners = (
        clustered(rows, 32),
        torch.randperm(rows, generator=torch.Generator().manual_seed(1)) + 7,
    )
    search = ExactSearch(32)
    search.load(owners, vectors.clone())
    agrees(search, vectors, owners, clustered(9, 32, seed=2), k)


def test_owners_with_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the best rows are those of one owner."""
    monkeypatch.setattr(exact_search, "BLOCK", 512)
    vectors = clustered(2000, 16)
    queries = vectors[:6].clone()
    owners = torch.arange(2000) % 50
    near = (vectors @ queries[0]).topk(1500).indices
    owners[near] = 3
    search = ExactSearch(16)
    search.load(owners, vectors.clone())
    agrees(search, vectors, owners, queries, 5)


def test_nearly_equal_rows_are_told_apart_in_float32() -> None:
    """Their cosines differ by less than half precision resolves."""
    generator = torch.Generator().manual_seed(0)
    query = normalize(torch.randn(1, 64, generator=generator), dim=1)
    vectors = normalize(query + 2e-4 * torch.randn(5000, 64, generator=generator), dim=1)
    search = ExactSearch(64)
    search.load(torch.arange(5000), vectors.clone())
    scores, owners = search.search(query, 10)
    expected = (vectors @ query[0]).topk(10)
    assert scores[0].tolist() == pytest.approx(expected.values.tolist(), abs=2e-7)
    assert (vectors[owners[0]] @ query[0]).min() >= expected.values.min() - 2e-7


@pytest.mark.parametrize("dim", [8, 512, 2048])
def test_the_error_of_half_precision_is_bounded(dim: int) -> None:
    """What `search` relies on, on this machine; also where all numbers of a row are alike."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([clustered(4000, dim), torch.ones(1, dim) / dim**0.5])
    for query in (normalize(torch.randn(dim, generator=generator), dim=0), rows[0], rows[-1]):
        rough = torch.mv(rows.half(), query.half()).double()
        assert (rough - rows.double() @ query.double()).abs().max() < HALF_ERROR


def test_rows_are_added_replaced_and_removed() -> None:
    generator = torch.Generator().manual_seed(0)
    search, kept = ExactSearch(8), dict[int, Tensor]()
    for step in range(600):
        owner = int(torch.randint(40, (1,), generator=generator))
        if torch.rand(1, generator=generator) < 0.35:
            search.remove(owner)
            kept.pop(owner, None)
        else:
            rows = int(torch.randint(1, 4, (1,), generator=generator))
            kept[owner] = normalize(torch.randn(rows, 8, generator=generator), dim=1)
            search.replace(owner, kept[owner])
        assert len(search) == len(kept) and len(search.vectors) == sum(map(len, kept.values()))
        if kept and step % 20 == 0:
            owners = torch.tensor([owner for owner, own in kept.items() for _ in own])
            agrees(search, torch.cat([*kept.values()]), owners, clustered(6, 8, step), 4)
    for owner in kept:
        assert torch.equal(search.rows_of(owner).sort(0).values, kept[owner].sort(0).values)


def test_removed_rows_are_not_in_memory() -> None:
    search = ExactSearch(8)
    search.load(torch.arange(3), torch.eye(8)[:3].clone())
    search.remove(2)
    search.remove(0)
    assert search._vectors.tolist() == [torch.eye(8)[1].tolist(), [0] * 8, [0] * 8]
    assert search._half[1:].abs().sum() == 0


def test_an_empty_search() -> None:
    scores, owners = ExactSearch(8).search(torch.ones(2, 8), 5)
    assert scores.shape == owners.shape == (2, 0)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_templates_are_those_of_multimodal_prototypes(weight: float) -> None:
    vectors = clustered(12, 8)
    identity = torch.tensor([0, 0, 1, 2, 2, 2, 3, 0, 1, 3, 3, 2])
    is_text = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0], dtype=torch.bool)
    templates, owner, support = make_templates(vectors, identity, is_text, 4, "mean", weight)
    assert support == ["both", "both", "image", "text"] and owner.tolist() == [0, 1, 2, 3]
    fitted = MultimodalPrototypes(FeatureSpec(8), text_weight=weight).fit(
        SupportSet(Features(vectors), identity, 4, torch.where(is_text, TEXT, IMAGE))
    )
    queries = clustered(5, 8, 3)
    torch.testing.assert_close(queries @ templates.T, fitted.logits(Features(queries)))


def test_the_most_similar_image_counts_under_max() -> None:
    vectors, identity = clustered(6, 8), torch.tensor([0, 0, 0, 1, 1, 2])
    is_text = torch.tensor([False, False, True, False, False, True])
    templates, owner, support = make_templates(vectors, identity, is_text, 3, "max", 0.25)
    assert support == ["both", "image", "text"] and owner.tolist() == [0, 0, 1, 1, 2]
    mixed = normalize(0.75 * vectors[:2] + 0.25 * vectors[2], dim=1)
    torch.testing.assert_close(templates, torch.cat([mixed, vectors[3:]]))
