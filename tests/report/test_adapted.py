"""The page and the table of a comparison of methods: true to its figures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.report.test_report import Page, check_self_contained
from vlfew.evaluation.adaptation.result import AdaptationResult, Estimate, MethodResult
from vlfew.report.adaptation_report import adaptation_table, write_adaptation_report


def cell(method: str, shots: int, mean: float, weight: float, new: Estimate | None = None) -> MethodResult:
    accuracy = Estimate(mean, 0.0234, [mean - 0.01, mean, mean + 0.01])
    ece, scaled = Estimate(0.401, 0.01, [0.4] * 3), Estimate(0.025, 0.01, [0.02] * 3)
    options = [{"text_weight": weight, "metric": "cosine"}] * 3
    return MethodResult(method, shots, accuracy, new, new, ece, scaled, [0.05] * 3, options, 0.123, 1.0)


FOUND = AdaptationResult(
    model="runs/<x>",
    command="vlfew adapt 'runs/<x>'",
    data="tiny",
    data_fingerprint="0123",
    split="test",
    support_split="test",
    trained_on="tiny/train",
    outside_data="",
    input_size=[1, 16, 16],
    classes=7,
    queries=[40, 40, 41],
    shots=[1, 4],
    repeats=3,
    tune_on="val-classes",
    tuning="options by others",
    base_to_new=False,
    templates=["{}"],
    descriptions="",
    methods=["prototypes", "tip_adapter"],
    skipped_methods=["zero_shot"],
    notes=["a part of the data"],
    cells=[
        cell("prototypes", 1, 0.5, 0.3),
        cell("prototypes", 4, 0.7, 0.3),
        cell("tip_adapter", 1, 0.6123, 0.3),
        cell("tip_adapter", 4, 0.8, 0.9),
    ],
)


def printed(found: AdaptationResult) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(adaptation_table(found))
    return out.getvalue()


def drawn(found: AdaptationResult, path: Path) -> Page:
    write_adaptation_report(path, found)
    html = path.read_text()
    page = Page(html)
    check_self_contained(page, html)
    return page


def bars(page: Page) -> dict[str, list[tuple[float, ...]]]:
    """Name of each drawn method to the x and the ends of its error bars."""
    return {name: list(zip(c["x"], c["low"], c["high"], strict=True)) for name, c in page.series}


def test_table() -> None:
    head, first, second = (line.split() for line in printed(FOUND).strip().splitlines())
    assert head == ["method", "1", "shot,", "%", "4", "shots,", "%"]
    assert first == ["prototypes", "50.00", "±", "2.34", "70.00", "±", "2.34"]
    assert second == ["tip_adapter", "61.23", "±", "2.34", "80.00", "±", "2.34"]


def test_an_interval_ends_at_what_there_can_be(tmp_path: Path) -> None:
    sure = replace(FOUND, cells=[cell("prototypes", k, 0.99, 0.3) for k in (1, 4)], methods=["prototypes"])
    assert "99.00 (96.66 to 100.00)" in printed(sure)
    page = drawn(sure, tmp_path / "sure.html")
    assert "99.00 (96.66 to 100.00)" in page.text
    (points,) = bars(page).values()
    assert points == [(k, pytest.approx(0.9666), 1.0) for k in (1.0, 4.0)]


def test_page_names_the_outside_data(tmp_path: Path) -> None:
    known = replace(FOUND, outside_data="ImageNet-1k", outside_data_overlap="contains the test images")
    assert "ImageNet-1k (contains the test images)" in drawn(known, tmp_path / "known.html").text


def test_page_has_figures_choices_and_what_was_skipped(tmp_path: Path) -> None:
    page = drawn(FOUND, tmp_path / "a.html")
    for shown in (
        "61.23 ± 2.34",
        "40.1 → 2.5",
        "tip adapter 80.0%",
        "text weight 0.9",
        "options by others",
        "0.12 s",
    ):
        assert shown in page.text, shown
    assert "Skipped, because they need text: zero shot." in page.text and "a part of the data" in page.text
    assert "runs/<x>" in page.text
    # An option that is the same everywhere is not shown.
    assert "metric" not in page.text and "text weight 0.3" in page.text
    assert "40 to 41 images per repeat" in page.text


def test_error_bars_are_where_the_shots_are(tmp_path: Path) -> None:
    found = bars(drawn(FOUND, tmp_path / "a.html"))
    assert [[x for x, *_ in points] for points in found.values()] == [[1.0, 4.0]] * 2
    low, high = found["prototypes 70.0%"][1][1:]
    assert (low, high) == (pytest.approx(0.7 - 0.0234), pytest.approx(0.7 + 0.0234))


def test_new_classes(tmp_path: Path) -> None:
    new = Estimate(0.4, 0.01, [0.4] * 3)
    cells = [*FOUND.cells[:2], *(replace(c, new=new, harmonic=new) for c in FOUND.cells[2:])]
    found = replace(FOUND, base_to_new=True, cells=cells, classes=8)
    lines = printed(found).splitlines()
    assert lines[2].split() == ["prototypes", "new", "–", "–"]
    assert lines[5].split()[:2] == ["tip_adapter", "new"] and "40.00 ± 1.00" in lines[5]
    page = drawn(found, tmp_path / "a.html")
    assert list(bars(page)) == ["tip adapter 40.0%"]
    assert "Harmonic mean of base and new" in page.text and "25%" in page.text
    none = replace(found, cells=[replace(c, new=None, harmonic=None) for c in cells])
    assert "None of these methods classifies" in drawn(none, tmp_path / "b.html").text


def test_a_single_repeat_and_number_of_shots(tmp_path: Path) -> None:
    cells = [replace(c, accuracy=Estimate(0.5, None, [0.5]), ece_scaled=None) for c in FOUND.cells[::2]]
    found = replace(FOUND, repeats=1, shots=[1], cells=cells, tune_on="none")
    assert printed(found).splitlines()[1].split() == ["prototypes", "50.00"]
    assert all("low" not in columns for _, columns in drawn(found, tmp_path / "a.html").series)
    text = drawn(found, tmp_path / "a.html").text
    assert "±" not in text and "→" not in text and "With one repeat there are none" in text
