"""The parts of the page, by plain-Python oracles."""

from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from tests.compare import assert_close
from vlfew.core.config import Config, LossConfig
from vlfew.core.features import FeatureSpec
from vlfew.core.plurals import counted
from vlfew.evaluation.results import Result
from vlfew.losses.base import LossContext
from vlfew.losses.objective import Objective, WeightedLoss, select_losses
from vlfew.report.charts import Axis, Chart, Series, draw_chart, embed
from vlfew.report.confusions import pair_counts
from vlfew.report.embedding_map import principal_components
from vlfew.report.formatting import duration, interval
from vlfew.report.images import THUMBNAIL, data_uri
from vlfew.report.tables import results_table
from vlfew.report.training_curves import loss_terms, loss_weights, smooth, training_curves
from vlfew.report.verification_curves import Drawn, roc_series, verification_curves


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
    plane, share = principal_components(x)
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    values = np.linalg.eigvalsh(np.cov(unit.T))[::-1]
    assert share == pytest.approx(values[:2].sum() / values.sum(), abs=1e-6)
    assert plane.numpy().var(axis=0, ddof=1) == pytest.approx(values[:2], rel=1e-4)
    assert_close(principal_components(3 * x)[0], plane, 1e-6)


@pytest.mark.parametrize("shape", [(5, 1), (1, 4), (2, 3)])
def test_a_plane_of_little_has_two_coordinates_all_the_same(shape: tuple[int, int]) -> None:
    plane, share = principal_components(torch.ones(shape))
    assert plane.shape == (shape[0], 2)
    assert share == 0.0


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
    losses = [LossConfig(loss="contrastive", weight=2.0), LossConfig(loss="contrastive", weight=3.0)]
    config = Config(objective=losses, fallback_loss=LossConfig(loss="supervised_contrastive", weight=5.0))
    chosen = select_losses([WeightedLoss(loss.loss, loss.weight) for loss in losses], has_text=False)
    made = Objective(chosen, LossContext(FeatureSpec(4), 3))
    weights = loss_weights(config)
    assert {name: weights[name] for name in made.specs} == {n: s.weight for n, s in made.specs.items()}
    assert weights["supervised_contrastive"] == 5.0


def columns(chart: Chart) -> dict[str, Any]:
    """Name of each series to its columns."""
    return {renderer.name: dict(renderer.data_source.data) for renderer in chart.figure.renderers}


def test_curves_bear_a_long_log_and_numbers_that_are_not_finite() -> None:
    log = [{"step": n, "loss": math.nan if n == 7 else 1.0 / n, "lr": 0.1} for n in range(1, 5000)]
    charts = training_curves(log, {})
    assert [chart.title for chart in charts] == ["Training loss", "Learning rate"]
    for chart in charts:
        for own in columns(chart).values():
            assert len(own["y"]) <= 240 and all(map(math.isfinite, own["y"]))
    assert len(training_curves([{"step": 1, "loss": 2.0, "lr": 0.0}], {})) == 2


def test_terms_that_take_turns_are_drawn_each_where_it_counts() -> None:
    """A classifier to step 50, triplets from there on: no entry has both."""
    first = [{"step": n, "loss": 2.0, "cross_entropy": 2.0, "lr": 0.1} for n in range(1, 51)]
    then = [{"step": n, "loss": 0.5, "triplet": 0.25, "lr": 0.1} for n in range(51, 101)]
    assert loss_terms([*first, *then]) == ["cross_entropy", "triplet"]
    found = columns(training_curves([*first, *then], {"triplet": 2.0})[0])
    assert list(found) == ["sum 0.50", "cross entropy 2.00", "2 × triplet 0.25"]
    spans = [(min(own["x"]), max(own["x"])) for own in found.values()]
    assert spans == [(1, 100), (1, 50), (51, 100)]
    assert list(columns(training_curves(first, {})[0])) == ["cross entropy 2.00"]


def test_a_chart_has_its_values_and_a_legend() -> None:
    series = [
        Series("a <b>", [1, 10, 100], [1, 2, 3], "#123456", low=[0, 1, 2], high=[2, 3, 4]),
        Series("b", [5], [2], "#654321"),
    ]
    chart = draw_chart("t", series, Axis("n", {1: "one", 10: "ten"}, log=True))
    assert chart.legend == [("a <b>", "#123456"), ("b", "#654321")]
    found = columns(chart)
    assert found["a <b>"]["y"] == [1, 2, 3] and found["a <b>"]["text"][1] == "n 10: 2"
    kinds = [type(renderer.glyph).__name__ for renderer in chart.figure.renderers]
    assert kinds == ["VArea", "Line", "Scatter"]  # a single point is drawn as one
    assert type(chart.figure.x_scale).__name__ == "LogScale"


def test_the_same_figure_is_the_same_text_and_cannot_end_its_script() -> None:
    def text() -> str:
        return embed(draw_chart("t", [Series("</script>", [1, 2], [3, 4], "#123456")]), "one-")

    assert text() == text()
    assert "</script>" not in text() and json.loads(text())["doc"]["roots"][0]["id"].startswith("one-")


def roc(**given: list[float]) -> Result:
    fields = {"data": "lfw", "split": "test", "seed": 0, "input_size": [1, 8, 8], "outside_data": False}
    return Result(protocol="verification", accuracy=0.9, ci95=0, episodes=1, command="", roc=given, **fields)


def test_the_roc_starts_where_its_axis_does_with_what_is_accepted_there() -> None:
    far, tar = [0.1, 1.0, 0.0, 0.0005, 0.01], [0.8, 1.0, 0.2, 0.3, 0.6]
    line = roc_series(Drawn(roc(far=far, tar=tar), "B"))
    assert line is not None
    assert list(zip(line.x, line.y, strict=True)) == [(1e-3, 0.3), (0.01, 0.6), (0.1, 0.8), (1.0, 1.0)]
    assert line.name == "B 60.0%" and len(line.low) == 0
    with_band = roc_series(Drawn(roc(far=far, tar=tar, low=[t - 0.1 for t in tar], high=[1.0] * 5)))
    assert with_band is not None and with_band.name == "60.0%"
    assert list(with_band.low) == pytest.approx([0.2, 0.5, 0.7, 0.9])


def test_a_roc_that_begins_late_accepts_nothing_before() -> None:
    line = roc_series(Drawn(roc(far=[0.25, 1.0], tar=[0.5, 1.0])))
    assert line is not None and list(line.x) == [0.25, 1.0] and line.name == "0.0%"


def test_no_curve_is_drawn_where_there_is_none() -> None:
    assert verification_curves([roc(), roc(far=[], tar=[])]) is None
    both = roc(far=[0, 1], tar=[0, 1]).model_copy(update={"cmc": [0.25, 0.5, 1.0]})
    drawn = verification_curves([both])
    assert drawn is not None
    assert [c.title for c in drawn["rocs"] + drawn["cmcs"]] == [
        "ROC, verification on lfw / test",
        "CMC, verification on lfw / test",
    ]
    assert list(columns(drawn["cmcs"][0])) == ["25.0%"]


def test_the_terminal_table_fits_and_says_the_numbers() -> None:
    fields = {"data": "glyphs", "split": "test", "seed": 0, "input_size": [1, 32, 32], "outside_data": False}
    results = [
        Result(protocol="zero-shot", accuracy=0.3764, ci95=0.021, episodes=884, command="", ways=884,
               images=7327, top5=0.6012, **fields),
        Result(protocol="multimodal", accuracy=0.95, ci95=0.0021, episodes=10000, command="", ways=20,
               shots=1, image_accuracy=0.91, text_accuracy=0.8, **fields),
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
