"""The page of a search: true to its trials, and there whatever came of them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.report.test_report import Page
from tests.training.conftest import CONFIG
from vlfew.report.charts import Axis, Dot, Line, line_chart, ratio_ticks
from vlfew.report.tune_report import Searched, search_table, write_tuned
from vlfew.training.tune.search_space import Value
from vlfew.training.tune.study import Importances, Trial
from vlfew.workflows.tune import Search

SPACE = """
optim.lr: {low: 1e-4, high: 1e-1, log: true}
image.width: {low: 4, high: 32, step: 4}
objective: {choices: [[{loss: contrastive}], [{loss: supervised_contrastive}]]}
"""
CONTRASTIVE, SUPERVISED = '[{"loss": "contrastive"}]', '[{"loss": "supervised_contrastive"}]'


def values(rate: float, width: int, objective: str = CONTRASTIVE) -> dict[str, Value]:
    return {"optim.lr": rate, "image.width": width, "objective": objective}


TRIALS = [
    Trial(1, values(0.01, 8, SUPERVISED), "finished", 0.912, {10: 0.8, 20: 0.912, 30: 0.9}, as_configured=True),
    Trial(2, values(0.002, 16), "finished", 0.9355, {10: 0.85, 20: 0.9, 30: 0.9355}),
    Trial(3, values(0.09, 32), "pruned", 0.21, {10: 0.21}),
    Trial(4, values(0.1, 4), "failed", None, why="the loss is not a number since step 3"),
    Trial(5, values(0.002, 16), "finished", 0.9355, {10: 0.85, 20: 0.9, 30: 0.9355}, twin=2),
]  # fmt: skip
SHARES = Importances({"optim.lr": 0.7, "image.width": 0.2, "objective": 0.1}, good=5, finished=12)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    (tmp_path / "small.yaml").write_text(CONFIG.format(root="images"))
    (tmp_path / "space.yaml").write_text(SPACE)
    files = (tmp_path / "small.yaml", ["image.width=8"], tmp_path / "space.yaml", tmp_path)
    search = Search(*files, trials=5, pruner="median", seed=7)
    for trial in TRIALS[:3]:
        run = search.run_of(trial)
        run.path.mkdir(parents=True)
        for step, accuracy in trial.curve.items():
            metadata = {"protocol": "few-shot", "accuracy": accuracy, "best": True}
            run.append_log({"step": step, "validation": metadata, "seconds": 6.0 * step})
        if trial.state == "finished":
            run.report.write_text("<p>page</p>")
    return search


def draw(search: Search, trials: list[Trial], importances: Importances | str = SHARES) -> tuple[Page, str]:
    best = max((t for t in trials if t.state == "finished"), key=lambda t: t.accuracy or 0, default=None)
    path = write_tuned(Searched(search, trials, best, importances, "vlfew evaluate it"))
    text = path.read_text(encoding="utf-8")
    assert path == search.path / "tuning.html"
    assert not re.search(r"https?://|@import|url\(|<script|nan", text)
    return Page(text), text


def test_the_page_says_what_was_tried_and_what_came_of_it(search: Search) -> None:
    page, text = draw(search, TRIALS)
    assert page.ids == ["best-trial", "history", "importance", "settings", "trials"]
    assert "5 trials: 3 finished, 1 pruned, 1 failed" in page.text
    assert "The best of 5 trials on the validation split that it was chosen by" in page.text
    assert "few-shot on the validation split" in page.text
    assert ">93.5<small>%</small>" in text and ">91.2<small>%</small>" in text
    assert search.command(TRIALS[1]) in page.text and "vlfew evaluate it" in page.text
    assert [c for c in page.cells if len(c) == 3] == [
        ["setting", "best", "as configured"],
        ["optim.lr", "0.002", "0.01"],
        ["image.width", "16", "8"],
        ["objective", CONTRASTIVE, SUPERVISED],
    ]
    rows = [c for c in page.cells if len(c) == 7][1:]
    assert [row[:3] for row in rows] == [
        ["1", "91.20", "finishedkept at step 20; as configured"],
        ["2", "93.55", "finishedkept at step 30"],
        ["3", "21.00", "pruned at step 10"],
        ["4", "–", "failedthe loss is not a number since step 3"],
        ["5", "93.55", "finished, as trial 2the same values, not trained again"],
    ]
    assert rows[1][3:] == ["0.002", "16", CONTRASTIVE, "3 min"] and rows[4][6] == ""


def test_points_and_rows_lead_to_the_pages_that_are_there(search: Search) -> None:
    page, text = draw(search, TRIALS)
    links = [address for address in page.addresses if not address.startswith("#")]
    assert set(links) == {"trial-001/report.html", "trial-002/report.html"}
    assert all((search.path / link).is_file() for link in links)
    # In the history and in each of three slices: the finished ones, and in the history the copy.
    assert links.count("trial-001/report.html") == 1 + 3 + 1
    assert links.count("trial-002/report.html") == 2 + 3 + 2
    assert text.count('class="dot pruned"') == 1 + 3 + 2  # and in two keys
    assert "trial 2: 93.55%, finished, optim.lr=0.002</title>" in text


def test_the_history_holds_the_best_until_a_better_one_is_there(search: Search) -> None:
    _, text = draw(search, TRIALS)
    (path,) = re.findall(r'<path d="M([^"]*)" class="line c1"', text.partition("in training")[0])
    points = [tuple(map(float, point.split())) for point in path.split(" L")]
    xs, ys = zip(*points, strict=True)
    assert len(points) == 4 and xs[1] == xs[2] and ys[0] == ys[1] > ys[2] == ys[3]
    assert "best 93.5%" in text or "best 93.6%" in text


def test_what_mattered_is_drawn_or_said_to_be_unknown(search: Search) -> None:
    page, text = draw(search, TRIALS)
    assert "the best 5 of the 12 finished trials" in page.text
    assert re.findall(r"width:([\d.]+)%", text) == ["100.00", "28.57", "14.29"]
    assert "70%" in page.text and "10%" in page.text
    page, _ = draw(search, TRIALS, "it takes 10 finished trials, and there are 3")
    assert "cannot be told yet: it takes 10 finished trials, and there are 3." in page.text


def test_a_page_of_nothing_that_could_be_trained(search: Search) -> None:
    page, _ = draw(search, [TRIALS[3]], "it takes 10 finished trials, and there are 0")
    assert page.ids == ["best-trial", "importance", "trials"]
    assert "No trial was trained to its end." in page.text and "chosen by" not in page.text


def test_a_search_that_was_interrupted(search: Search) -> None:
    unfinished = Trial(3, values(0.01, 8), "unfinished", 0.5, {10: 0.5})
    page, _ = draw(search, [*TRIALS[:2], unfinished])
    assert "3 trials: 2 finished, 1 unfinished" in page.text
    assert page.cells[-1][2] == "unfinished at step 10"


def test_a_trial_far_below_does_not_press_the_others_into_a_line(search: Search) -> None:
    heights = {}
    for low in (0.9, 0.1):
        third = Trial(3, values(0.09, 32), "pruned", low, {10: low})
        _, text = draw(search, [*TRIALS[:2], third])
        chart = text.partition("each trial</figcaption>")[2].partition("</svg>")[0]
        heights[low] = dict(re.findall(r"cy=\"([\d.]+)\" r=\"5\" class=\"[^\"]*\"><title>(trial \d)", chart))
        heights[low] = {name: float(y) for y, name in heights[low].items()}
    apart = {low: found["trial 1"] - found["trial 2"] for low, found in heights.items()}
    assert apart[0.1] > apart[0.9] / 3
    assert heights[0.1]["trial 3"] > heights[0.1]["trial 1"] > heights[0.1]["trial 2"]
    assert "stands at their lower edge" in text


def test_the_terminal_table_has_each_setting_once_the_best_first(search: Search) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(search_table(Searched(search, TRIALS, TRIALS[1], "", "")))
    head, *rows = console.export_text().splitlines()
    assert head.split()[-3:] == ["optim.lr", "image.width", "objective"]
    assert [row.split()[:5] for row in rows] == [
        ["2", "93.55", "30", "0.002", "16"],
        ["1", "91.20", "20", "0.01", "8"],
    ]


def test_an_axis_of_its_own_span_and_points_alone() -> None:
    dots = [Dot(1, 0.5, "a <b>", "best", "there.html"), Dot(2, 0.75, "c", "")]
    chart = line_chart("t", [], dots=dots, x_axis=Axis("", span=(0, 4), zero=False))
    (one, two) = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5" class="dot ?(\w*)"?', chart)
    quarter = float(two[0]) - float(one[0])
    assert float(one[0]) - 50 == pytest.approx(quarter, abs=0.11) and float(one[1]) > float(two[1])
    assert '<a href="there.html"><circle' in chart and "a &lt;b&gt;" in chart and chart.count("<a ") == 1


def test_what_stands_behind_is_drawn_faintly() -> None:
    chart = line_chart("t", [Line([0, 1], [1, 2], color=0, faint=True), Line([0, 1], [2, 1], color=1)])
    assert len(re.findall(r'class="raw c0"', chart)) == 1 and len(re.findall(r'class="line c1"', chart)) == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-4, 1e-1, [1e-4, 1e-3, 1e-2, 1e-1]),
        (0.05, 0.5, [0.05, 0.1, 0.2, 0.5]),
        (3e-3, 4e-2, [5e-3, 1e-2, 2e-2]),
        (3.0, 4.0, [3.0, 4.0]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low: float, high: float, expected: list[float]) -> None:
    assert ratio_ticks(low, high) == pytest.approx(expected)
