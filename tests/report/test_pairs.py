"""The sheet of pairs, held against distances in plain Python, and the map of an embedding of two numbers."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html import unescape

import pytest
import torch
from torch import Tensor

from tests.evaluation.fakes import Pixels, dots
from tests.report.test_comparison import result
from vlfew.classifiers import CLASSIFIERS
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import FeatureBank
from vlfew.report.embedding_map import draw_map
from vlfew.report.pairs import sample_pairs, scale_of

LABELS = [n // 6 for n in range(60)]
TILE = re.compile(
    r'<span class="tile (\w+)"><span class="two"><img[^>]*alt="(\d+)\.png"[^>]*><img[^>]*alt="(\d+)\.png"[^>]*></span>'
    r"<b>(.) ([a-z ]+)</b></span><p class=\"aside\"><b>([\d.]+)</b> against ([\d.]+)</p>"
)


def distance(data: LabeledImages, i: int, j: int) -> float:
    one, other = ((data.images.batch(torch.tensor([n])).flatten() / 255).tolist() for n in (i, j))
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


@pytest.mark.parametrize("spread", [0.1, 0.9])
def test_each_pair_has_its_distance_and_the_verdict_of_its_threshold(interval_unit: float) -> None:
    data = dots(LABELS, interval_unit=interval_unit)
    sheet = sample_pairs(EvaluationContext(Pixels(), data), [], "test", 0)
    cards = sheet.split("<figcaption>")[1:]
    assert [card.partition("<")[0] for card in cards] == ["The same", "Different"]
    for kind, card in zip((True, False), cards, strict=True):
        tiles = TILE.findall(card)
        assert len(tiles) == 12 == len({(i, j) for _, i, j, *_ in tiles})
        shown = []
        for style, i, j, sign, said, figure, threshold in tiles:
            assert (data.labels[int(i)] == data.labels[int(j)]) == kind
            apart = distance(data, int(i), int(j))
            assert float(figure) == pytest.approx(apart, abs=0.0051)
            if figure != threshold:
                assert (said == "the same") == (float(figure) < float(threshold))
            right = (said == "the same") == kind
            assert (style, sign) == (("right", "✓") if right else ("wrong", "✗"))
            shown.append(apart)
        assert shown == sorted(shown)
        right_here = sum(style == "right" for style, *_ in tiles)
        assert f"{right_here} of 12 here are told right" in card
    if interval_unit == 0.9:
        assert "tile wrong" in sheet and "tile right" in sheet


def test_the_pairs_are_those_of_the_verification() -> None:
    data = dots(LABELS)
    done = result(
        protocol="verification", asked={"split": "test", "pairs": 40, "folds": 2, "pairs_file": "no"}
    )
    sheet = sample_pairs(EvaluationContext(Pixels(), data), [result(), done], "test", 0)
    assert sheet.count("of all 20<") == 2 and "chosen on the other folds" in sheet


def test_pairs_of_the_data_take_no_number_of_drawn_ones() -> None:
    """Not even from a result that says how many would have been drawn."""
    data = dots(LABELS)
    i = torch.arange(60)
    j = torch.where(i % 2 == 0, i + 1, (i + 6) % 60)
    fold = (data.labels[i] // 5)[:, None].expand(-1, 2)
    own = replace(data, pairs={"test": Pairs(i, j, data.labels[i] == data.labels[j], fold)})
    done = result(protocol="verification", asked={"split": "test", "pairs": 6000, "folds": 10})
    for results in ([], [done]):
        assert sample_pairs(EvaluationContext(Pixels(), own), results, "test", 0).count("of all 30<") == 2


def test_where_there_are_no_pairs_it_says_why() -> None:
    sheet = sample_pairs(EvaluationContext(Pixels(), dots([0, 0, 0])), [], "test", 0)
    assert sheet.startswith("<p>No pairs: dots: split &#x27;test&#x27; has 1 classes")


@pytest.mark.parametrize("name", ["cosine", "euclidean", "prototypes"])
def test_a_scale_is_the_distance(name: str) -> None:
    a, b = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    method = CLASSIFIERS.get(name)(FeatureSpec(4))
    scores = method.pair(Features(a), Features(b)).tolist()
    for one, other, score in zip(a.tolist(), b.tolist(), scores, strict=True):
        if name != "euclidean":  # prototypes go by the cosine
            one, other = ([v / math.hypot(*x) for v in x] for x in (one, other))
        assert scale_of(method).of(score) == pytest.approx(math.dist(one, other))


def bank_of(embedding: Tensor, labels: list[int]) -> FeatureBank:
    data = dots(labels)
    return FeatureBank(Features(embedding), data.labels, torch.arange(len(labels)), data, "test")


def points(drawing: str) -> dict[str, str]:
    """Class name to the points of the map that are its own."""
    return {
        unescape(name): shapes
        for name, shapes in re.findall(r"<g [^>]*><title>(s\d+)</title>(.*?)</g>", drawing)
    }


def test_an_embedding_of_two_numbers_is_the_map() -> None:
    embedding = torch.tensor([[3.0, 1.0], [-2.0, 4.0], [0.5, -1.0], [1.0, 1.0]])
    drawing = draw_map(bank_of(embedding, [0, 0, 0, 1]), 0)
    assert "shown as it is, not normalized" in drawing and "variance" not in drawing
    found = sorted(
        (float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', points(drawing)["s0"])
    )
    (left, _), *_, (right, _) = found
    scale = (right - left) / 5  # from -2 to 3
    zero_x = float(re.findall(r'd="M([\d.]+) 0 V', drawing)[0])
    zero_y = float(re.findall(r'd="M0 ([\d.]+) H', drawing)[0])
    expected = sorted((zero_x + scale * x, zero_y - scale * y) for x, y in embedding[:3].tolist())
    for got, wanted in zip(found, expected, strict=True):
        assert got == pytest.approx(wanted, abs=0.2)


def test_no_two_classes_share_color_and_shape() -> None:
    labels = [n // 5 for n in range(60)]
    embedding = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    drawing = draw_map(bank_of(embedding, labels), 0)
    groups = re.findall(r'<g class="points (c\d)"><title>s\d+</title><(\w+)([^>]*)', drawing)
    assert len({(color, shape, "transform" in rest) for color, shape, rest in groups}) == len(groups) == 12


def test_small_classes_are_left_out_where_there_are_others() -> None:
    labels = [0] * 6 + [1] * 5 + [2] * 4 + [3]
    embedding = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    drawing = draw_map(bank_of(embedding, labels), 0)
    assert set(points(drawing)) == {"s0", "s1"} and "2 classes of 5 images or more" in drawing
    assert set(points(draw_map(bank_of(embedding[6:], [0] * 5 + [1] * 4 + [2]), 0))) == {"s0", "s1", "s2"}


def test_a_plane_of_one_point_is_no_map() -> None:
    assert "No map" in draw_map(bank_of(torch.ones(6, 2), [0, 0, 0, 1, 1, 1]), 0)
