"""Look-alikes, duplicates and reviews of scores, against loops in plain Python."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests.gallery.conftest import DIM, draw
from vlfew.cli import main
from vlfew.gallery import closest_pairs as module
from vlfew.gallery.closest_pairs import closest_pairs
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.index import Items
from vlfew.gallery.look_alikes import find_duplicates
from vlfew.gallery.score_review import TooFewImages, error_rates
from vlfew.models import DualStream


def loop(vectors: Tensor, owner: Tensor, limit: int, least: float) -> list[tuple[float, int, int]]:
    best: dict[tuple[int, int], float] = {}
    for a, b in itertools.product(range(len(vectors)), repeat=2):
        pair = int(owner[a]), int(owner[b])
        if pair[0] < pair[1]:
            best[pair] = max(best.get(pair, -2), float(vectors[a] @ vectors[b]))
    ranked = sorted(((score, *pair) for pair, score in best.items() if score >= least), reverse=True)
    return ranked[:limit]


@pytest.mark.parametrize(
    ("per_owner", "limit", "least"), [(1, 5, -2.0), (3, 7, -2.0), (3, 100, 0.2), (2, 1, 0.0)]
)
def test_the_closest_pairs(per_owner: int, limit: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 7)  # several blocks
    generator = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(36, 5, generator=generator), dim=1)
    owner = (10 + torch.arange(36) // per_owner)[torch.randperm(36, generator=generator)]
    found = closest_pairs(vectors, owner, limit, least)
    expected = loop(vectors, owner, limit, least)
    assert [pair.score for pair in found] == pytest.approx([score for score, *_ in expected], abs=1e-5)
    for pair, (score, *owners) in zip(found, expected, strict=True):
        assert sorted([int(owner[pair.first]), int(owner[pair.second])]) == owners
        assert float(vectors[pair.first] @ vectors[pair.second]) == pytest.approx(score, abs=1e-5)


def test_nobody_to_compare() -> None:
    assert closest_pairs(torch.ones(3, 2), torch.zeros(3), 5) == []
    assert closest_pairs(torch.empty(0, 2), torch.empty(0), 5) == []


@pytest.fixture
def gallery(tmp_path: Path, model: DualStream) -> Iterator[Gallery]:
    """Eight identities of three images each, near a direction of their own; two of the directions are close."""
    generator = torch.Generator().manual_seed(1)
    centers = torch.randn(8, DIM, generator=generator)
    centers[5] = centers[2] + 0.05 * torch.randn(DIM, generator=generator)
    rows = centers.repeat_interleave(3, 0) + 0.2 * torch.randn(24, DIM, generator=generator)
    with Gallery.create(tmp_path / "g.db", model) as made:
        made.enroll_embeddings([f"p{n // 3}" for n in range(24)], rows)
        made.enroll_embeddings(["text a", "text b"], rows[[0, 0]], kind="text")
        yield made


def test_look_alikes_are_scored_as_the_gallery_scores(gallery: Gallery) -> None:
    found = gallery.look_alikes(40)
    assert found == sorted(found, key=lambda pair: -pair.score)
    names = gallery.names([pair.first for pair in found] + [pair.second for pair in found])
    named = [(names[pair.first], names[pair.second], pair.support) for pair in found]
    assert named[0] == ("text a", "text b", "text") and named[1] == ("p2", "p5", "image")
    assert len(found) == 8 * 7 // 2 + 1  # texts are compared with texts alone


def test_duplicates(gallery: Gallery, tmp_path: Path) -> None:
    image, similar = draw(tmp_path / "a.png", 1), draw(tmp_path / "b.png", 1, change=1)
    with pytest.warns(UserWarning, match="the same image"):
        gallery.enroll("ann", [image])
        gallery.enroll("bea", [image])
    gallery.enroll("ida", [similar])
    ids = {name: gallery.find(name).id for name in ("ann", "bea", "ida")}
    (shared,) = gallery.shared_images().values()
    assert [identity for identity, _ in shared] == [ids["ann"], ids["bea"]]
    assert [item for _, item in shared] == [gallery.show("ann")[0].id, gallery.show("bea")[0].id]
    near = {frozenset((pair.first, pair.second)) for pair in gallery.near_duplicates(3, 0.99)}
    assert near == {frozenset(pair) for pair in itertools.combinations(ids.values(), 2)}
    assert all(
        pair.score >= 0.99 and pair.first_item and pair.second_item
        for pair in gallery.near_duplicates(3, 0.99)
    )


def test_near_duplicates_are_not_crowded_out_by_shared_images(gallery: Gallery, tmp_path: Path) -> None:
    image = draw(tmp_path / "a.png", 1)
    with pytest.warns(UserWarning, match="the same image"):
        for number in range(4):
            gallery.enroll(f"twin {number}", [image, draw(tmp_path / f"{number}.png", 1, change=10 + number)])
    gallery.enroll("ida", [draw(tmp_path / "c.png", 1, change=2)])
    twins = {gallery.find(f"twin {number}").id for number in range(4)}
    found = gallery.duplicates(2, 0.9)
    assert [{identity for identity, _ in rows} for rows in found.same.values()] == [twins]
    ida = gallery.find("ida").id
    assert len(found.near) == 2 and found.near == sorted(found.near, key=lambda pair: -pair.score)
    assert all(ida in (pair.first, pair.second) for pair in found.near)  # that of twins is said by `same`


def test_many_who_share_an_image_take_no_time() -> None:
    """Their pairs would be 50 million."""
    count = 10_000
    embedding = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0]] * count + [[1.0, 0.1]]), dim=1)
    ids = torch.arange(count + 1)
    items = Items(embedding, ids, torch.zeros(count + 1, dtype=torch.bool), ids)
    shared = {b"x": [(number, number) for number in range(count)]}
    begin = time.process_time()
    found = find_duplicates(items, shared, 0.9, 20)
    assert [(pair.first, pair.second) for pair in found.near] == [(0, count)]
    assert time.process_time() - begin < 5


def test_error_rates_are_those_of_counting() -> None:
    generator = np.random.default_rng(0)
    genuine, impostor = generator.normal(1, 1, 300).round(2), generator.normal(-1, 1, 5000).round(2)
    points = error_rates(genuine, impostor, 100)
    assert len(points) <= 100 and [p.threshold for p in points] == sorted({p.threshold for p in points})
    for point in points:
        assert point.far == pytest.approx((impostor >= point.threshold).mean())
        assert point.frr == pytest.approx((genuine < point.threshold).mean())
    assert points[-1].far == 0 and points[-1].frr == 1
    assert min(p.far for p in points if p.far > 0) == pytest.approx(1 / 5000, rel=0.5)


def test_a_review_shows_both_sides_of_a_threshold(gallery: Gallery) -> None:
    review = gallery.review_scores()
    assert (review.identities, len(review.genuine), review.impostors) == (8, 24, 24 * 7)
    threshold = review.closest[4].score
    accepted, rejected = review.accepted_impostors(threshold, 999), review.closest_impostors(threshold, 999)
    assert len(accepted) == 5 and accepted + rejected == review.closest
    assert accepted[-1].score == threshold > rejected[0].score
    low, high = review.rejected_genuine(threshold, 999), review.hardest_genuine(threshold, 999)
    assert low + high == review.genuine and all(t.score < threshold for t in low)
    for trial in (review.closest[0], review.genuine[0]):
        assert trial.item in {item.id for item in gallery.show(trial.probe_identity)}
    worst = review.closest[0]  # scored as identify scores the image against that identity
    assert worst.probe_identity != worst.identity
    at = [item for item in gallery.store.embeddings() if item.item_id == worst.item]
    probe = torch.frombuffer(bytearray(at[0].embedding), dtype=torch.float32)[None]
    (matches,) = gallery.identify_embeddings(probe, k=10)
    assert {m.id: m.score for m in matches}[worst.identity] == pytest.approx(worst.score, abs=1e-3)


def test_too_few_images_for_a_review(tmp_path: Path, model: DualStream) -> None:
    with Gallery.create(tmp_path / "few.db", model) as few:
        few.enroll_embeddings(["a", "b"], torch.eye(DIM)[:2])
        with pytest.raises(TooFewImages, match="two images"):
            few.review_scores()
        with pytest.raises(TooFewImages, match="images and texts"):
            few.review_scores("both")


def test_the_commands(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> list[dict[str, object]]:
        with pytest.raises(SystemExit) as ended:
            main(["gallery", *arguments, "--json"])
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    (_, second) = run("look-alikes", gallery.name, "--limit", "2")
    assert (second["name"], second["other"], second["support"]) == ("p2", "p5", "image")
    found = run("duplicates", gallery.name, "--score", "0.5", "--limit", "1")
    assert {found[0]["name"], found[0]["other"]} == {"p2", "p5"} and found[0]["why"] == "similar"
