"""The page of a search: true to its trials, and there whatever came of them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.report.test_report import Page
from tests.training.conftest import CONFIG
from vlfew.report.tune_report import SearchResult, search_table, write_tune_report
from vlfew.training.tune.search_space import Value
from vlfew.training.tune.study import Importances, Trial
from vlfew.workflows.search import Search

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
    Trial(4, values(0.1, 4), "failed", None, why="the loss or the weights have not been finite since step 3"),
    Trial(5, values(0.002, 16), "finished", 0.9355, {10: 0.85, 20: 0.9, 30: 0.9355}, duplicate_of=2),
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
    path = write_tune_report(SearchResult(search, trials, best, importances, "vlfew evaluate it"))
    text = path.read_text(encoding="utf-8")
    assert path == search.path / "tuning.html"
    page = Page(text)
    assert not re.search(r"https?://|@import|url\(", page.style)
    return page, text


def test_the_page_says_what_was_tried_and_what_came_of_it(search: Search) -> None:
    page, text = draw(search, TRIALS)
    assert page.ids == ["best-trial", "history", "importance", "settings", "trials"]
    assert "5 trials: 3 finished, 1 pruned, 1 failed" in page.text
    assert "The best of 5 trials was chosen on the validation split" in page.text
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
        ["1", "91.20", "finishedsaved at step 20; as configured"],
        ["2", "93.55", "finishedsaved at step 30"],
        ["3", "21.00", "pruned at step 10"],
        ["4", "–", "failedthe loss or the weights have not been finite since step 3"],
        ["5", "93.55", "finished, as trial 2the same values, not trained again"],
    ]
    assert rows[1][3:] == ["0.002", "16", CONTRASTIVE, "3 min"] and rows[4][6] == ""


def points(page: Page) -> dict[str, dict[str, Any]]:
    """The points of all charts by what they show when hovering: height and page."""
    return {
        text: {"y": y, "page": link}
        for _, columns in page.series
        if "page" in columns
        for text, y, link in zip(columns["text"], columns["y"], columns["page"], strict=True)
    }


def test_points_and_rows_lead_to_the_pages_that_are_there(search: Search) -> None:
    page, _ = draw(search, TRIALS)
    links = [address for address in page.addresses if not address.startswith("#")]
    # The fifth trial has the values of the second.
    assert links == ["trial-001/report.html", "trial-002/report.html", "trial-002/report.html"]
    assert all((search.path / link).is_file() for link in links)
    found = points(page)
    assert found["trial 2: 93.55%, finished, optim.lr=0.002"]["page"] == "trial-002/report.html"
    assert found["trial 1: 91.20%, finished"]["page"] == "trial-001/report.html"
    assert found["trial 3: 21.00%, pruned"]["page"] == ""
    # In the history all that were measured, and in each of three charts those that were trained.
    assert len(found) == 4 + 3 * 3
    assert [name for name, _ in page.series].count("pruned") == 4


def test_the_history_has_the_best_until_a_better_one(search: Search) -> None:
    page, _ = draw(search, TRIALS)
    (best,) = [columns for name, columns in page.series if name.startswith("best so far 93.5")]
    assert list(zip(best["x"], best["y"], strict=True)) == [(1, 0.912), (2, 0.9355), (5, 0.9355)]


def test_importances_are_drawn_or_unknown(search: Search) -> None:
    page, text = draw(search, TRIALS)
    assert "the best 5 of the 12 finished trials" in " ".join(page.text.split())
    shares = text.partition('class="shares')[2].partition("</ul>")[0]
    assert re.findall(r"width:([\d.]+)%", shares) == ["100.00", "28.57", "14.29"]
    assert "70%" in page.text and "10%" in page.text
    page, _ = draw(search, TRIALS, "it takes 10 finished trials, and there are 3")
    assert "not known yet: it takes 10 finished trials, and there are 3." in page.text


def test_a_page_of_nothing_that_could_be_trained(search: Search) -> None:
    page, _ = draw(search, [TRIALS[3]], "it takes 10 finished trials, and there are 0")
    assert page.ids == ["best-trial", "importance", "trials"]
    assert "No trial finished its training." in page.text and "was chosen" not in page.text


def test_a_search_that_was_interrupted(search: Search) -> None:
    unfinished = Trial(3, values(0.01, 8), "unfinished", 0.5, {10: 0.5})
    page, _ = draw(search, [*TRIALS[:2], unfinished])
    assert "3 trials: 2 finished, 1 unfinished" in page.text
    assert page.cells[-1][2] == "unfinished at step 10"


def test_a_trial_far_below_does_not_press_the_others_into_a_line(search: Search) -> None:
    heights = {}
    for low in (0.9, 0.1):
        third = Trial(3, values(0.09, 32), "pruned", low, {10: low})
        page, _ = draw(search, [*TRIALS[:2], third])
        found = [points(page)[text]["y"] for text in points(page) if "=" not in text]
        heights[low] = (min(found), max(found))
    assert heights[0.9][0] == 0.9
    assert 0.5 < heights[0.1][0] < 0.9 and heights[0.1][1] == 0.9355
    assert "bottom edge" in page.text


def test_the_terminal_table_has_each_setting_once_the_best_first(search: Search) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(search_table(SearchResult(search, TRIALS, TRIALS[1], "", "")))
    head, *rows = console.export_text().splitlines()
    assert head.split()[-3:] == ["optim.lr", "image.width", "objective"]
    assert [row.split()[:5] for row in rows] == [
        ["2", "93.55", "30", "0.002", "16"],
        ["1", "91.20", "20", "0.01", "8"],
    ]
