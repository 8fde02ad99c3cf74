"""The parts of the page, by plain-Python oracles."""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from vlfew.core.config import Config, Loss
from vlfew.core.features import FeatureSpec
from vlfew.evaluation.results import Result
from vlfew.losses.base import LossContext
from vlfew.losses.objective import Objective, TermSpec, choose_terms
from vlfew.report.charts import Axis, Line, interval_unit, line_chart, ticks
from vlfew.report.confusions import pair_counts
from vlfew.report.training_curves import draw_curves, loss_terms, loss_weights, smooth
from vlfew.report.images import THUMBNAIL, data_uri
from vlfew.report.embedding_map import principal_plane
from vlfew.report.markup import Html, element
from vlfew.report.verification_curves import Drawn, draw_verification, roc_line
from vlfew.report.tables import results_table
from vlfew.report.formatting import counted, duration, interval


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_even_and_inside(low: float, width: float) -> None:
    high = low + width
    if high - low < 1e-7 * max(abs(low), abs(high)):  # closer than the digits of a tick
        return
    found = ticks(low, high)
    slack = 1e-6 * width + 1e-9 * max(abs(low), abs(high))
    assert 1 <= len(found) <= 7
    assert all(low - slack <= t <= high + slack for t in found)
    steps = [b - a for a, b in pairwise(found)]
    for step in steps:
        assert step == pytest.approx(steps[0], rel=1e-3)
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-2


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(10, 50)), max_size=5))
def test_labels_never_overlap(wanted: list[tuple[float, float]]) -> None:
    wanted.sort()
    middles, heights = [m for m, _ in wanted], [h for _, h in wanted]
    placed = interval_unit(middles, heights, bottom=200)

    def edges(at: list[float]) -> list[tuple[float, float]]:
        return [(m - h / 2, m + h / 2) for m, h in zip(at, heights, strict=True)]

    assert all(below[0] >= above[1] - 1e-6 for above, below in pairwise(edges(placed)))
    assert all(bottom <= 200 + 1e-6 for _, bottom in edges(placed))
    if sum(heights) <= 200:
        assert all(top >= -1e-6 for top, _ in edges(placed))
    asked = edges(middles)
    if all(top >= 0 and bottom <= 200 for top, bottom in asked) and all(
        below[0] >= above[1] for above, below in pairwise(asked)
    ):
        assert placed == pytest.approx(middles)  # nothing is moved without need


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=100))
def test_smoothing_is_a_windowed_mean(values: list[float]) -> None:
    half = len(values) // 24
    for i, got in enumerate(smooth(values)):
        window = [v for j, v in enumerate(values) if abs(i - j) <= half]
        assert got == pytest.approx(sum(window) / len(window), abs=1e-9)


def test_pairs_are_counted_like_a_counter() -> None:
    generator = torch.Generator().manual_seed(0)
    true, taken = torch.randint(0, 4, (2, 300), generator=generator)
    oracle = Counter((a, b) for a, b in zip(true.tolist(), taken.tolist(), strict=True) if a != b)
    found = pair_counts(true, taken)
    assert {(a, b): n for a, b, n in found} == oracle
    assert [(-n, a, b) for a, b, n in found] == sorted((-n, a, b) for a, b, n in found)
    assert pair_counts(true, true) == []


def test_the_plane_is_that_of_the_covariance() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 5, 1, 1, 1, 1])
    plane, share = principal_plane(x)
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    values = np.linalg.eigvalsh(np.cov(unit.T))[::-1]
    assert share == pytest.approx(values[:2].sum() / values.sum(), abs=1e-6)
    assert plane.numpy().var(axis=0, ddof=1) == pytest.approx(values[:2], rel=1e-4)
    assert torch.allclose(principal_plane(3 * x)[0], plane, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 1), (1, 4), (2, 3)])
def test_a_plane_of_little_has_two_coordinates_all_the_same(shape: tuple[int, int]) -> None:
    plane, share = principal_plane(torch.ones(shape))
    assert plane.shape == (shape[0], 2)
    assert share == 0.0


def test_markup_escapes_all_but_markup() -> None:
    made = element("p", "<b>", Html("<i></i>"), None, title='"&"', hidden=True, class_="a", stroke_width=1.25)
    assert made == ('<p title="&quot;&amp;&quot;" hidden class="a" stroke-width="1.2">&lt;b&gt;<i></i></p>')


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 20, 20), "PNG"), ((1, 200, 300), "PNG"), ((3, 84, 84), "JPEG")]
)
def test_images_survive(shape: tuple[int, int, int], kind: str) -> None:
    image = torch.full(shape, 77, dtype=torch.uint8)
    head, _, content = data_uri(image).partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{kind.lower()};base64"
    assert image.format == kind and max(image.size) <= THUMBNAIL
    assert image.mode == ("L" if shape[0] == 1 else "RGB")
    assert abs(np.asarray(image).astype(int) - 77).max() <= 2


def test_loss_terms_have_the_weights_of_their_objective() -> None:
    losses = [Loss(loss="contrastive", weight=2.0), Loss(loss="contrastive", weight=3.0)]
    config = Config(objective=losses, fallback_loss=Loss(loss="supervised_contrastive", weight=5.0))
    chosen = choose_terms([TermSpec(loss.loss, loss.weight) for loss in losses], words=False)
    made = Objective(chosen, LossContext(FeatureSpec(4), 3))
    weights = loss_weights(config)
    assert {name: weights[name] for name in made.specs} == {n: s.weight for n, s in made.specs.items()}
    assert weights["supervised_contrastive"] == 5.0


def test_curves_bear_a_long_log_and_numbers_that_are_none() -> None:
    log = [{"step": n, "loss": math.nan if n == 7 else 1.0 / n, "lr": 0.1} for n in range(1, 5000)]
    drawn = draw_curves(log, {})
    assert "nan" not in drawn
    assert len(drawn) < 40_000
    assert "nan" not in draw_curves([{"step": 1, "loss": 2.0, "lr": 0.0}], {})


def words(chart: str) -> str:
    """What is written in it; labels are folded."""
    return " ".join(re.findall(r">([^<>]+)<", chart))


def test_terms_that_take_turns_are_drawn_each_where_it_counts() -> None:
    """A classifier to step 50, triplets from there on: no entry names both."""
    first = [{"step": n, "loss": 2.0, "cross_entropy": 2.0, "lr": 0.1} for n in range(1, 51)]
    then = [{"step": n, "loss": 0.5, "triplet": 0.25, "lr": 0.1} for n in range(51, 101)]
    assert loss_terms([*first, *then]) == ["cross_entropy", "triplet"]
    chart = draw_curves([*first, *then], {"triplet": 2.0}).partition("Learning rate")[0]
    for label in ("sum 0.50", "cross entropy 2.00", "2 × triplet 0.25"):
        assert label in words(chart)
    whole, early, late = coordinates(chart, "line")
    assert early[-1][0] < late[0][0] and (early[0][0], late[-1][0]) == (whole[0][0], whole[-1][0])
    alone = draw_curves(first, {})
    assert "cross entropy 2.00" in words(alone) and "sum" not in words(alone)


def coordinates(chart: str, style: str) -> list[list[tuple[float, float]]]:
    """The points of each path of a style."""
    paths = re.findall(rf'<path d="M([^"Z]*)Z?" class="{style} ', chart)
    return [[tuple(map(float, point.split())) for point in path.split(" L")] for path in paths]  # type: ignore[misc]


def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis() -> None:
    chart = line_chart("t", [Line([1, 10, 100], [1, 2, 3])], x_axis=Axis("n", log=True))
    ((a, b, c),) = coordinates(chart, "line")
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.11)
    assert a[1] > b[1] > c[1]


def test_a_band_goes_there_and_back() -> None:
    chart = line_chart("t", [Line([0, 1], [1, 2], low=[0.5, 1.5], high=[2, 3], color=3)])
    ((high, higher, lower, low),) = coordinates(chart, "band")
    ((first, last),) = coordinates(chart, "line")
    assert high[0] == low[0] == first[0] and higher[0] == lower[0] == last[0]
    assert high[1] < first[1] < low[1] and higher[1] < last[1] < lower[1]  # down is up


def roc(**given: list[float]) -> Result:
    fields = {"data": "lfw", "split": "test", "seed": 0, "input_size": [1, 8, 8], "outside_data": False}
    return Result(protocol="verification", accuracy=0.9, ci95=0, episodes=1, command="", roc=given, **fields)


def test_the_roc_starts_where_its_axis_does_with_what_is_accepted_there() -> None:
    far, tar = [0.1, 1.0, 0.0, 0.0005, 0.01], [0.8, 1.0, 0.2, 0.3, 0.6]
    line = roc_line(Drawn(roc(far=far, tar=tar), "B", 1))
    assert list(zip(line.x, line.y, strict=True)) == [(1e-3, 0.3), (0.01, 0.6), (0.1, 0.8), (1.0, 1.0)]
    assert line.label == "B 60.0%" and line.low == ()
    with_band = roc_line(Drawn(roc(far=far, tar=tar, low=[t - 0.1 for t in tar], high=[1.0] * 5)))
    assert list(with_band.low) == pytest.approx([0.2, 0.5, 0.7, 0.9]) and with_band.label == "60.0%"


def test_a_roc_that_begins_late_accepts_nothing_before() -> None:
    line = roc_line(Drawn(roc(far=[0.25, 1.0], tar=[0.5, 1.0])))
    assert list(line.x) == [0.25, 1.0] and line.label == "0.0%"


def test_no_curve_is_drawn_where_there_is_none() -> None:
    assert draw_verification([roc(), roc(far=[], tar=[])]) is None
    both = roc(far=[0, 1], tar=[0, 1]).model_copy(update={"cmc": [0.25, 0.5, 1.0]})
    drawn = draw_verification([both])
    assert drawn is not None and "ROC, verification on lfw / test" in drawn and "CMC, " in drawn
    assert "A TAR at FAR among the results is no point of the curve" in drawn
    assert ">25.0%</text>" in drawn


def test_the_terminal_table_fits_and_says_the_numbers() -> None:
    fields = {"data": "glyphs", "split": "test", "seed": 0, "input_size": [1, 32, 32], "outside_data": False}
    results = [
        Result(protocol="zero-shot", accuracy=0.3764, ci95=0.021, episodes=884, command="", ways=884,
               images=7327, top5=0.6012, **fields),
        Result(protocol="multimodal", accuracy=0.95, ci95=0.0021, episodes=10000, command="", ways=20,
               shots=1, images_accuracy=0.91, words_accuracy=0.8, **fields),
        Result(protocol="omniglot-runs", accuracy=0.97, ci95=0.01, episodes=20, command="", **fields),
    ]  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(results_table(results))
    text = console.export_text()
    for said in (
        "all 884 classes",
        "37.64 ± 2.10",
        "top-5 60.1",
        "20-way 1-shot",
        "95.00 ± 0.21",
        "10,000",
        "80.0",
    ):
        assert said in text
    assert all(len(line.rstrip()) <= 100 for line in text.splitlines())


@pytest.mark.parametrize(
    ("accuracy", "ci95", "said"),
    [
        (0.9, 0.1, "± 10.00"),
        (0.9, 0.25, "(65.00 to 100.00)"),
        (0.1, 0.25, "(0.00 to 35.00)"),
        (0.5, 0.9, "(0.00 to 100.00)"),
    ],
)
def test_no_interval_goes_beyond_what_there_can_be(accuracy: float, ci95: float, said: str) -> None:
    told = Result(protocol="few-shot", accuracy=accuracy, ci95=ci95, episodes=2, command="", data="d",
                  split="test", seed=0, input_size=[1, 8, 8], outside_data=False)  # fmt: skip
    assert interval(told) == said
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(results_table([told]))
    assert f"{100 * accuracy:.2f} {said}" in console.export_text()


def test_a_single_point_is_drawn_as_one() -> None:
    assert line_chart("t", [Line([30], [2])]).count("<circle") == 1
    assert "<circle" not in line_chart("t", [Line([10, 30], [2, 1])])


def test_numbers_are_said_as_people_do() -> None:
    assert [counted(n, "class") for n in (1, 2)] == ["1 class", "2 classes"]
    assert counted(7327, "image") == "7,327 images"
    assert [duration(s) for s in (0.4, 59.6, 312, 3600, 7380)] == [
        "0 s",
        "1 min",
        "5 min 12 s",
        "1 h",
        "2 h 3 min",
    ]
