"""The sheet of pairs, held against distances in plain Python, and the map of an embedding of two numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from bokeh.models import ImageURL
from torch import Tensor

from tests.evaluation.fakes import Pixels, dots
from tests.report.test_comparison import result
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.report.embedding_map import embedding_map
from vlfew.report.pairs import pair_sheets, scale_of
from vlfew.similarities import SIMILARITIES

LABELS = [n // 6 for n in range(60)]


def distance(data: LabeledImages, i: int, j: int) -> float:
    one, other = ((data.images.batch(torch.tensor([n])).flatten() / 255).tolist() for n in (i, j))
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


@pytest.mark.parametrize("spread", [0.1, 0.9])
def test_each_pair_has_its_distance_and_the_verdict_of_its_threshold(spread: float) -> None:
    data = dots(LABELS, spread=spread)
    sheets = pair_sheets(EvaluationContext(Pixels(), data), [], "test", 0)["sheets"]
    assert [sheet["title"] for sheet in sheets] == ["Same class", "Different classes"]
    for kind, sheet in zip((True, False), sheets, strict=True):
        names = [tuple(int(i.name.removesuffix(".png")) for i in pair["images"]) for pair in sheet["pairs"]]
        assert len(names) == 12 == len(set(names))
        shown = []
        for (i, j), pair in zip(names, sheet["pairs"], strict=True):
            assert (data.labels[i] == data.labels[j]) == kind
            shown.append(distance(data, i, j))
            assert float(pair["value"]) == pytest.approx(shown[-1], abs=0.0051)
            sign, _, predicted = pair["mark"].partition(" ")
            if pair["value"] != pair["threshold"]:
                assert (predicted == "same") == (float(pair["value"]) < float(pair["threshold"]))
            right = (predicted == "same") == kind
            assert (pair["style"], sign) == (("right", "✓") if right else ("wrong", "✗"))
        assert shown == sorted(shown)
        right_here = sum(pair["style"] == "right" for pair in sheet["pairs"])
        assert sheet["subtitle"].startswith(f"{right_here} of the 12 shown are correct")
    if spread == 0.9:
        assert {pair["style"] for sheet in sheets for pair in sheet["pairs"]} == {"right", "wrong"}


def totals(part: Any) -> list[str]:
    return [sheet["subtitle"].rpartition(" ")[2] for sheet in part["sheets"]]


def test_the_pairs_are_those_of_the_verification() -> None:
    data = dots(LABELS)
    options = {"split": "test", "pairs": 40, "folds": 2, "pairs_file": "no"}
    done = result(protocol="verification", options=options)
    part = pair_sheets(EvaluationContext(Pixels(), data), [result(), done], "test", 0)
    assert totals(part) == ["20", "20"] and part["chosen_on"] == "the other folds"


def test_pairs_of_the_data_take_no_number_of_sampled_ones() -> None:
    """Not even from a result that has one."""
    data = dots(LABELS)
    i = torch.arange(60)
    j = torch.where(i % 2 == 0, i + 1, (i + 6) % 60)
    fold = (data.labels[i] // 5)[:, None].expand(-1, 2)
    own = replace(data, pairs={"test": Pairs(i, j, data.labels[i] == data.labels[j], fold)})
    done = result(protocol="verification", options={"split": "test", "pairs": 6000, "folds": 10})
    for results in ([], [done]):
        assert totals(pair_sheets(EvaluationContext(Pixels(), own), results, "test", 0)) == ["30", "30"]


def test_where_there_are_no_pairs_it_says_why() -> None:
    part = pair_sheets(EvaluationContext(Pixels(), dots([0, 0, 0])), [], "test", 0)
    assert isinstance(part, str) and part.startswith("No pairs: dots: split 'test' has 1 class")


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_a_scale_is_the_distance(name: str) -> None:
    a, b = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    similarity = SIMILARITIES.get(name)(FeatureSpec(4))
    scores = similarity.pairwise(Features(a), Features(b)).tolist()
    for one, other, score in zip(a.tolist(), b.tolist(), scores, strict=True):
        if name == "cosine":
            one, other = ([v / math.hypot(*x) for v in x] for x in (one, other))
        assert scale_of(similarity).of(score) == pytest.approx(math.dist(one, other))


def bank_of(embedding: Tensor, labels: list[int]) -> FeatureBank:
    data = dots(labels)
    return FeatureBank(Features(embedding), data.labels, torch.arange(len(labels)), data, "test")


def drawn(embedding: Tensor, labels: list[int]) -> tuple[Any, dict[str, Any]]:
    """The map, and class name to the renderer of its points."""
    part = embedding_map(bank_of(embedding, labels), 0)
    renderers = part["chart"].figure.renderers
    examples = [one for one in renderers if isinstance(one.glyph, ImageURL)]
    points = {one.name: one for one in renderers if one not in examples}
    assert [one.name for one in examples] == list(points)  # an example of each class, hidden with it
    return part, points


def test_an_embedding_of_two_numbers_is_the_map() -> None:
    embedding = torch.tensor([[3.0, 1.0], [-2.0, 4.0], [0.5, -1.0], [1.0, 1.0]])
    part, points = drawn(embedding, [0, 0, 0, 1])
    assert part["share"] is None
    data = points["s0"].data_source.data
    assert sorted(zip(data["x"], data["y"], strict=True)) == sorted(map(tuple, embedding[:3].tolist()))
    assert all(uri.startswith("data:image/png") for uri in data["image"])


def test_no_two_classes_share_color_and_shape() -> None:
    labels = [n // 5 for n in range(60)]
    _, points = drawn(torch.randn(60, 2, generator=torch.Generator().manual_seed(0)), labels)
    looks = {(one.glyph.fill_color, one.glyph.marker) for one in points.values()}
    assert len(looks) == len(points) == 12


def test_small_classes_are_left_out_where_there_are_others() -> None:
    labels = [0] * 6 + [1] * 5 + [2] * 4 + [3]
    embedding = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    part, points = drawn(embedding, labels)
    assert set(points) == {"s0", "s1"} and part["among"] == "2 classes with 5 images or more"
    assert set(drawn(embedding[6:], [0] * 5 + [1] * 4 + [2])[1]) == {"s0", "s1", "s2"}


def test_a_plane_of_one_point_is_no_map() -> None:
    assert "No map" in embedding_map(bank_of(torch.ones(6, 2), [0, 0, 0, 1, 1, 1]), 0)
