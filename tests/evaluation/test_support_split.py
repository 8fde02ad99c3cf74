"""Few-shot with the support from another split, against loops; and drawn pairs saved in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.fakes import Pixels, dots, run
from vlfew.core.errors import ConfigError, DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.episodes import sample_cross_split
from vlfew.evaluation.run_protocol import check_protocol
from vlfew.evaluation.split_episodes import split_episodes
from vlfew.report.formatting import setting


@pytest.fixture
def data() -> LabeledImages:
    """Six classes of five images: three of each for training, two for test; a class is in one of them only."""
    every = dots([c for c in range(6) for _ in range(5)], spread=0.8)
    place = torch.arange(30) % 5
    train, test = (place < 3) & (every.labels != 5), (place >= 3) & (every.labels != 0)
    return replace(
        every,
        splits={"train": train.nonzero().flatten(), "test": test.nonzero().flatten()},
        split_by="image",
    )


@pytest.mark.parametrize("queries", [1, 2, "all"])
def test_support_and_queries_come_from_two_splits(data, queries):
    result, outcome = run(
        EvaluationContext(Pixels(), data),
        "few-shot",
        support_split="train",
        ways=3,
        queries=queries,
        episodes=60,
    )
    drawn = split_episodes(data, "test", 3, 1, queries, 60, 0, support_split="train")
    both = torch.cat([data.splits["train"], data.splits["test"]])
    pixels = data.images.batch(torch.arange(30)).flatten(1).double() / 255
    for e in range(60):
        support, query = both[drawn.support[e, :, 0]], both[drawn.query[e]]
        assert set(support.tolist()) <= set(data.splits["train"].tolist())
        assert set(query.flatten().tolist()) <= set(data.splits["test"].tolist())
        assert data.labels[support].tolist() == drawn.classes[e].tolist()
        assert len(set(drawn.classes[e].tolist())) == 3 and not {0, 5} & set(drawn.classes[e].tolist())
        right = []
        for n in range(3):
            assert len(query[n].unique()) == len(query[n])
            for q in query[n].tolist():
                assert data.labels[q] == drawn.classes[e, n]
                distance = [float((pixels[q] - pixels[s]).square().sum()) for s in support.tolist()]
                right.append(distance.index(min(distance)) == n)
        assert outcome.per_episode[e] == pytest.approx(np.mean(right))
    assert 1 / 3 < result.accuracy < 1
    assert result.get("support_split") == "train"
    assert setting(result) == "3-way 1-shot, support from train"


def test_all_ways_are_the_classes_of_both_splits(data):
    drawn = split_episodes(data, "test", "all", 3, "all", 4, 0, support_split="train")
    assert drawn.classes.tolist() == [[1, 2, 3, 4]] * 4
    assert drawn.support.shape == (4, 4, 3) and drawn.query.shape == (4, 4, 2)


def test_all_ragged_queries_occur_once():
    support, query = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 0, 0, 2, 0])
    drawn = sample_cross_split(support, query, "all", 1, "all", 5, 0)
    for e in range(5):
        found = [sorted(p for p in row if p >= 0) for row in drawn.query[e].tolist()]
        assert found == [[5, 6, 8], [4], [7]]


def test_episodes_do_not_depend_on_their_number(data):
    few, many = (split_episodes(data, "test", 3, 2, 1, n, 7, support_split="train") for n in (3, 9))
    assert torch.equal(few.support, many.support[:3]) and torch.equal(few.query, many.query[:3])


def test_episodes_are_saved(data, tmp_path: Path):
    options = {"ways": 3, "queries": 2, "episodes": 20, "episodes_file": tmp_path / "file"}
    context = EvaluationContext(Pixels(), data)
    first, _ = run(context, "few-shot", support_split="train", **options)
    again, _ = run(context, "few-shot", support_split="train", seed=5, **options)
    assert again.accuracy == first.accuracy
    with pytest.raises(ConfigError, match=r"holds .* name another file"):
        run(context, "few-shot", support_split="train", **options | {"ways": 2})
    with pytest.raises(DataError, match=r"were drawn from .*support from train, not from"):
        run(context, "few-shot", **options | {"queries": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"support_split": "test"}, "support_split is the split 'test' itself"),
        ({"support_split": "training"}, "no split 'training'"),
        ({"ways": 5}, "5-way episodes need 5 classes, but the two splits share 4"),
        ({"shots": 4}, "has 3 images, but shots is 4; set shots=3 or fewer"),
        ({"queries": 3}, "has 2 images, but queries is 3; set queries=2 or fewer"),
        ({"ways": 1}, "ways is 1"),
        ({"episodes": "each"}, "episodes=each is for support and queries of one split"),
        ({"on_small_class": "skip"}, "on_small_class=skip is for support and queries of one split"),
    ],
)  # fmt: skip
def test_impossible_options(data, options, message):
    options = {"support_split": "train", "ways": 3, "queries": 1} | options
    with pytest.raises((ConfigError, DataError), match=message) as error:
        check_protocol("few-shot", options, data)
    assert "\n" not in str(error.value)


def test_drawn_pairs_are_saved(tmp_path: Path):
    data = dots([c for c in range(12) for _ in range(4)])
    file, context = tmp_path / "pairs.safetensors", EvaluationContext(Pixels(), data)
    options = {"pairs": 60, "folds": 3, "pairs_file": file}
    check_protocol("verification", options, data)
    assert not file.exists()
    first, one = run(context, "verification", **options)
    again, other = run(context, "verification", seed=9, **options)
    fresh, _ = run(context, "verification", pairs=60, folds=3, seed=9)
    assert first.get("auc") == again.get("auc") != fresh.get("auc")
    assert (one.per_episode == other.per_episode).all()
    with pytest.raises(ConfigError, match=r"holds 60 pairs in 3 folds, not 40 pairs in 3 folds"):
        check_protocol("verification", options | {"pairs": 40}, data)
    with pytest.raises(DataError, match=r"were drawn from dots .* test, not from"):
        check_protocol("verification", options, replace(data, fingerprint="other"))
    file.write_bytes(b"no pairs")
    with pytest.raises(DataError, match="cannot read pairs from"):
        check_protocol("verification", options, data)


def test_a_data_set_s_own_pairs_are_not_saved(tmp_path: Path):
    from vlfew.evaluation.pairs import sample_pairs

    data = dots([c for c in range(12) for _ in range(4)])
    own = replace(data, pairs={"test": sample_pairs(data, "test", 60, 3, 0)})
    with pytest.raises(ConfigError, match="has its own pairs, none are drawn; leave pairs_file out"):
        check_protocol("verification", {"pairs_file": tmp_path / "file"}, own)
