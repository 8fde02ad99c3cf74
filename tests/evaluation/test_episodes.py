"""Episodes: what holds for every draw, and that draws are uniform."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.episodes import (
    Episodes,
    enumerate_supports,
    sample_episodes,
    sample_omniglot_trials,
    sample_without_replacement,
)

CHI_SQUARE_999 = {23: 49.73, 59: 98.3}
"""99.9% points by degrees of freedom."""


def labels_of(sizes: list[int], seed: int = 0) -> torch.Tensor:
    """Classes 0, 3, 6 ... of the sizes, shuffled."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) * 3
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


@given(st.data())
@settings(max_examples=60)
def test_every_episode_is_valid(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(3, 9), min_size=2, max_size=6))
    ways = data.draw(st.one_of(st.just("all"), st.integers(2, len(sizes))))
    shots = data.draw(st.integers(0, 2))
    queries = data.draw(st.one_of(st.just("all"), st.integers(1, 3 - shots)))
    labels = labels_of(sizes)
    drawn = sample_episodes(labels, ways, shots, queries, 7, data.draw(st.integers(-3, 2**40)))
    n = len(sizes) if ways == "all" else ways
    assert drawn.classes.shape == (7, n) and drawn.support.shape == (7, n, shots)
    for classes, support, query in zip(drawn.classes, drawn.support, drawn.query, strict=True):
        assert len(set(classes.tolist())) == n
        for c, s, q in zip(classes.tolist(), support.tolist(), query.tolist(), strict=True):
            real = [p for p in q if p >= 0]
            assert len(real) == (sizes[c // 3] - shots if queries == "all" else queries)
            assert len({*s, *real}) == len(s) + len(real)
            assert (labels[s + real] == c).all()


def test_episodes_depend_on_the_seed_and_not_on_their_number() -> None:
    labels = labels_of([30] * 8)
    a, b = (sample_episodes(labels, 5, 2, 4, n, seed=7) for n in (2000, 11))
    other = sample_episodes(labels, 5, 2, 4, 11, seed=8)
    for part in ("support", "query", "classes"):
        assert torch.equal(getattr(a, part)[:11], getattr(b, part))
        assert not torch.equal(getattr(b, part), getattr(other, part))


def test_all_ordered_draws_are_equally_likely() -> None:
    rows = 60_000
    randoms = np.random.default_rng(0).random((rows, 3))
    drawn = sample_without_replacement(np.full(rows, 4), randoms)
    counts = [np.all(drawn == order, axis=1).sum() for order in itertools.permutations(range(4), 3)]
    assert sum(counts) == rows
    expected = rows / 24
    assert sum((c - expected) ** 2 / expected for c in counts) < CHI_SQUARE_999[23]


def test_classes_and_images_are_uniform() -> None:
    drawn = sample_episodes(labels_of([10] * 6), 2, 1, 3, 30_000, seed=0)
    for part in (drawn.support, drawn.query):
        counts = part.flatten().bincount(minlength=60).double()
        # Draws without replacement vary less than independent ones, so the bound is on the safe side.
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < CHI_SQUARE_999[59]
        assert counts.min() > 0 and counts.std() > 0


def test_blocks_of_rows_are_independent() -> None:
    randoms = np.random.default_rng(0).random((5000, 6))
    sizes = np.random.default_rng(1).integers(1, 300, 5000)
    together = sample_without_replacement(sizes, randoms)
    for row in range(0, 5000, 617):
        assert (
            sample_without_replacement(sizes[row : row + 1], randoms[row : row + 1]) == together[row]
        ).all()


@pytest.mark.parametrize(
    ("ways", "shots", "queries", "message"),
    [
        (4, 1, 2, "4-way episodes need 4 classes, but the split has 3"),
        (2, 1, 15, r"class 'c3' has 4 images, but 1 shot and 15 queries need 16 \(and 2 more classes have"),
        (2, 4, "all", "class 'c3' has 4 images, but 4 shots and at least 1 query need 5"),
    ],
)
def test_too_little_data(ways: int, shots: int, queries: int, message: str) -> None:
    names = [f"c{i}" for i in range(9)]
    labels = labels_of([9, 4, 9])
    with pytest.raises(DataError, match=message):
        sample_episodes(labels, ways, shots, queries, 3, 0, names)


@pytest.mark.parametrize("wrong", [{"ways": 1}, {"ways": 0}, {"shots": -1}, {"queries": 0}, {"episodes": 0}])
def test_counts_must_be_large_enough(wrong: dict[str, int]) -> None:
    options = {"ways": 2, "shots": 1, "queries": 1, "episodes": 1} | wrong
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is"):
        sample_episodes(labels_of([5, 5]), **options, seed=0)


@given(st.data())
@settings(max_examples=60)
def test_enumerated_supports_match_a_loop(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(3, 9), min_size=2, max_size=6))
    queries = data.draw(st.one_of(st.just("all"), st.integers(1, 2)))
    labels = labels_of(sizes, seed=data.draw(st.integers(0, 9)))
    drawn = enumerate_supports(labels, data.draw(st.sampled_from(["all", len(sizes)])), 1, queries, seed=0)
    of_class = [[p for p, label in enumerate(labels.tolist()) if label == 3 * c] for c in range(len(sizes))]
    assert len(drawn) == min(sizes)
    for e in range(min(sizes)):
        assert drawn.classes[e].tolist() == [3 * c for c in range(len(sizes))]
        assert drawn.support[e].tolist() == [[own[e]] for own in of_class]
        for own, query in zip(of_class, drawn.query[e].tolist(), strict=True):
            others, found = own[:e] + own[e + 1 :], [p for p in query if p >= 0]
            if queries == "all":
                assert found == others and query[len(found) :] == [-1] * (len(query) - len(found))
            else:
                assert len(set(found)) == len(query) == queries and set(found) <= set(others)


def test_queries_of_enumerated_supports_depend_on_the_seed() -> None:
    labels = labels_of([40] * 3)
    first, again, other = (enumerate_supports(labels, "all", 1, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first.query, again.query) and not torch.equal(first.query, other.query)
    assert torch.equal(first.support, other.support)


def test_queries_of_enumerated_supports_are_uniform() -> None:
    labels = torch.arange(2).repeat_interleave(5)
    drawn = [enumerate_supports(labels, "all", 1, 1, seed).query[:, 1, 0] - 5 for seed in range(2000)]
    counts = torch.stack([torch.stack(drawn)[:, e].bincount(minlength=5) for e in range(5)])
    assert (counts.diagonal() == 0).all()
    rest = counts[~torch.eye(5, dtype=torch.bool)].double()
    assert ((rest - 500).abs() < 5 * (500 * 3 / 4) ** 0.5).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shots": 5}, ConfigError, "episodes=each takes one image .* shots must be 1, not 5"),
        ({"shots": 0}, ConfigError, "shots must be 1, not 0"),
        ({"ways": 2}, ConfigError, "all 3 classes of the split, not 2 of them; use ways=all"),
        ({"ways": 4}, DataError, "4-way episodes need 4 classes, but the split has 3"),
        ({"queries": 0}, ConfigError, "queries is 0"),
        ({"queries": 4}, DataError, "class 'c3' has 4 images, but 1 shot and 4 queries need 5"),
    ],
)
def test_each_needs_one_shot_and_all_classes(options: dict, error: type[Exception], message: str) -> None:
    arguments = {"ways": "all", "shots": 1, "queries": "all"} | options
    with pytest.raises(error, match=message):
        enumerate_supports(labels_of([9, 4, 9]), **arguments, seed=0, class_names=[f"c{i}" for i in range(9)])


@pytest.mark.parametrize(("images", "message"), [(5, "one class, 'cat'"), (0, "no class")])
def test_all_ways_need_two_classes(images: int, message: str) -> None:
    with pytest.raises(DataError, match=f"the split has {message}; at least 2"):
        sample_episodes(torch.zeros(images, dtype=torch.int64), "all", 1, 1, 3, 0, ["cat"])


def test_episodes_are_saved_and_loaded(tmp_path: Path) -> None:
    drawn, path = sample_episodes(labels_of([5, 5]), 2, 1, 2, 9, 0), tmp_path / "e.safetensors"
    drawn.save(path, "data a")
    back = Episodes.load(path, "data a")
    assert torch.equal(back.support, drawn.support) and torch.equal(back.query, drawn.query)
    with pytest.raises(DataError, match="drawn from data a, not from data b"):
        Episodes.load(path, "data b")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot read episodes"):
        Episodes.load(path, "data a")


def drawings(missing: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three alphabets of 6, 4 and 2 characters by 5 drawers, some drawings missing."""
    labels, drawers = torch.arange(12).repeat_interleave(5), torch.arange(5).repeat(12)
    keep = torch.randperm(60, generator=torch.Generator().manual_seed(1))[missing:]
    return labels[keep], torch.tensor([0] * 6 + [1] * 4 + [2] * 2), drawers[keep]


@pytest.mark.parametrize("missing", [0, 10])
def test_trials_stay_within_an_alphabet_and_have_two_drawers(missing: int) -> None:
    labels, group, drawers = drawings(missing)
    drawn = sample_omniglot_trials(labels, group, drawers, 4, 200, seed=0)
    support, query = drawn.support[..., 0], drawn.query[..., 0]
    for positions in (support, query):
        assert torch.equal(labels[positions], drawn.classes)
        assert (drawers[positions] == drawers[positions][:, :1]).all()
    assert (drawers[support] != drawers[query]).all()
    alphabets = group[drawn.classes]
    assert (alphabets == alphabets[:, :1]).all() and set(alphabets.flatten().tolist()) == {0, 1}
    assert all(len(set(row)) == 4 for row in drawn.classes.tolist())
    again = sample_omniglot_trials(labels, group, drawers, 4, 10, seed=0)
    assert torch.equal(again.query, drawn.query[:10])


@pytest.mark.parametrize(("ways", "draws", "message"), [(1, 3, "ways is 1"), (2, 0, "trials is 0")])
def test_trials_need_a_draw_and_two_ways(ways: int, draws: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sample_omniglot_trials(*drawings(), ways, draws, seed=0)


def test_no_alphabet_is_large_enough() -> None:
    with pytest.raises(DataError, match="no two here drew more than 6; set ways=6 or fewer"):
        sample_omniglot_trials(*drawings(), 7, 10, seed=0)


@settings(max_examples=400)
@given(st.data())
def test_the_way_out_works(data: st.DataObject) -> None:
    """What a message says is done until there are episodes, or it asks for more data."""
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    options: dict = {
        "ways": data.draw(st.one_of(st.just("all"), st.integers(2, 9))),
        "shots": data.draw(st.integers(0, 9)),
        "queries": data.draw(st.one_of(st.just("all"), st.integers(1, 9))),
    }
    for _ in range(4):
        try:
            assert len(sample_episodes(labels_of(sizes), **options, episodes=2, seed=0)) == 2
            return
        except DataError as error:
            message = str(error)
        settings_told = dict(re.findall(r"(ways|shots|queries)=(\d+)", message.rpartition("; ")[2]))
        if not settings_told:
            assert min(sizes) == 1 or len(sizes) == 1, message
            return
        assert all(value != str(options[key]) for key, value in settings_told.items()), message
        options |= {key: int(value) for key, value in settings_told.items()}
    pytest.fail(message)
