"""Several runs on a page: what is set beside what, which episodes are the same, and what is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.test_report import Page, check_self_contained
from tests.test_cli import fails
from vlfew.cli import main
from vlfew.core.config import Config, LossConfig, OptimConfig
from vlfew.core.errors import RunError
from vlfew.evaluation.results import Result, read_results, write_results
from vlfew.evaluation.statistics import mean_ci95
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import save_model
from vlfew.models.spec import ModelSpec
from vlfew.report.charts import PALETTE
from vlfew.report.comparison import RunComparison, compare_runs, ranking, write_comparison
from vlfew.report.load_run import MOST
from vlfew.report.match_results import match
from vlfew.report.significance import compare, why_not_paired
from vlfew.training.run_folder import RunFolder


def result(**given: Any) -> Result:
    fields = {
        "protocol": "few-shot",
        "data": "glyphs",
        "split": "test",
        "accuracy": 0.9,
        "ci95": 0.01,
        "episodes": 40,
        "seed": 0,
        "input_size": [1, 16, 16],
        "outside_data": False,
        "command": "",
        "data_fingerprint": "f00d",
        "ways": 5,
        "shots": 1,
        "queries": 3,
        "method": "default",
        "interval": "over episodes",
    }
    return Result(**(fields | given))


def answered(
    accuracies: np.ndarray, name: str = "episodes/00-few-shot.npy", **given: Any
) -> tuple[Result, Any]:
    """A result and the accuracies it is the mean of."""
    mean, ci95 = mean_ci95(accuracies.tolist())
    given = {"accuracy": mean, "ci95": ci95, "episodes": len(accuracies), "per_episode": name} | given
    return result(**given), accuracies


def make_run(
    folder: Path,
    answers: list[Result | tuple[Result, np.ndarray]],
    seed: int = 0,
    lr: float = 1e-3,
    weights: bool = True,
) -> Path:
    """A finished run with these results, and the accuracies of their episodes."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    config = Config(
        name=folder.name,
        seed=seed,
        objective=[LossConfig(loss="contrastive")],
        optim=OptimConfig(lr=lr, steps=40),
    )
    run.claim(config)
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    save_model(DualStream.from_spec(spec), run.path, {"trained_on": "glyphs/train", "seconds": 312.0})
    if not weights:
        (run.path / "model.safetensors").unlink()
    for step in (10, 20, 40):
        run.append_log({"step": step, "loss": 5 / step + lr, "lr": lr, "seconds": 3.0 * step})
        validation = {"protocol": "few-shot", "accuracy": 0.5 + step / 100, "best": True}
        run.append_log({"step": step, "validation": validation, "seconds": 3.0 * step})
    results = []
    for answer in answers:
        if isinstance(answer, tuple):
            path = folder / str(answer[0].per_episode)
            path.parent.mkdir(exist_ok=True)
            np.save(path, answer[1])
            answer = answer[0]
        results.append(answer)
    write_results(run.results, results)
    return folder


class ListPage(Page):
    """A page with the text of each item of a list, and of each row of a table, too."""

    def __init__(self, text: str) -> None:
        self.items: list[str] = []
        super().__init__(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag in ("li", "tr"):
            self.items.append("")

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if {"li", "tr"} & set(self.open):
            self.items[-1] += data + " "


def page_of(compared: RunComparison, folder: Path) -> ListPage:
    out = folder / "page.html"
    write_comparison(compared, out)
    text = out.read_text(encoding="utf-8")
    page = ListPage(text)
    check_self_contained(page, text)
    return page


def runs_that_differ(folder: Path, episodes: int = 40) -> list[Path]:
    """Two runs on the same episodes, the second better on most of them."""
    rng = np.random.default_rng(0)
    hard = rng.integers(6, 12, episodes) / 15
    better = hard + rng.integers(0, 4, episodes) / 15
    return [
        make_run(folder / "first", [answered(hard)]),
        make_run(folder / "second", [answered(better)], lr=0.5),
    ]


def test_a_difference_on_the_same_episodes(tmp_path: Path) -> None:
    paths = runs_that_differ(tmp_path)
    compared = compare_runs(paths)
    (c,) = compared.comparisons
    first, second = (np.load(path / "episodes/00-few-shot.npy") for path in paths)
    assert c.difference.mean == pytest.approx(float((second - first).mean()))
    assert c.episodes == 40 and c.why == "" and c.corrected == c.difference.p and c.significant
    page = page_of(compared, tmp_path)
    assert page.ids == ["results", "differences", "training", "configuration"]
    (line,) = [item for item in page.items if "paired" in item]
    assert f"+{100 * c.difference.mean:.2f}" in line and "paired over 40 episodes" in line
    (row,) = [row for row in page.cells if "few-shot" in row[0]]
    accuracies = [f"{100 * float(a.mean()):.2f} ± " for a in (first, second)]
    assert accuracies[0] in row[1] and accuracies[1] in row[2] and "★" in row[2] and "≈" not in row[1]
    assert "not of new classes" in page.text and "Holm" in page.text


def test_runs_of_which_there_is_much_to_say_are_said(tmp_path: Path) -> None:
    paths = runs_that_differ(tmp_path)
    text = page_of(compare_runs(paths), tmp_path).text
    model = DualStream.from_spec(
        ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    )
    count = sum(p.numel() for p in model.parameters())
    for words in (f"{count:,} trained", "16 × 16 pixels, gray", "5 min 12 s", "glyphs/train", "Outside data"):
        assert text.count(words) == 2, words
    assert "0 frozen" not in text


def test_only_settings_of_training_that_differ_are_listed(tmp_path: Path) -> None:
    page = page_of(compare_runs(runs_that_differ(tmp_path)), tmp_path)
    assert [
        [cell.strip() for cell in row] for row in page.cells if row[0].startswith(("optim", "name", "seed"))
    ] == [["optim.lr", "0.001", "0.5"]]


def test_questions_of_one_run_only_have_a_dash(tmp_path: Path) -> None:
    both, alone = result(accuracy=0.8), result(ways=20)
    paths = [make_run(tmp_path / "a", [both]), make_run(tmp_path / "b", [alone, both])]
    compared = compare_runs(paths)
    assert [[r is not None for r in row.results] for row in compared.rows] == [[True, True], [False, True]]
    (row,) = [row for row in page_of(compared, tmp_path).cells if "20-way" in row[0]]
    assert row[1].strip() == "–" and "90.00 ± 1.00" in row[2] and "★" not in row[2]


def test_a_single_episode_has_no_interval_on_the_page(tmp_path: Path) -> None:
    one = {"episodes": 1, "ci95": None}
    paths = [make_run(tmp_path / name, [result(**one, shots=1), result(**one, shots=5)]) for name in "ab"]
    page = page_of(compare_runs(paths), tmp_path)
    assert sum("(no interval: one episode)" in cell for row in page.cells for cell in row) == 4
    html = (tmp_path / "page.html").read_text()
    assert "5-shot: 90.0% (no interval)" in html and "± 0.00" not in html


def test_one_run_is_a_page_of_one(tmp_path: Path) -> None:
    page = page_of(compare_runs(runs_that_differ(tmp_path)[:1]), tmp_path)
    assert page.ids == ["results", "training"]
    assert "report.html" in page.text and "★" not in page.text


def test_the_same_question_is_one_row_whatever_the_draw() -> None:
    a, b = result(seed=0), result(seed=1, episodes=80)
    assert [len(row.given) for row in match([[a], [b]])] == [2]
    for other in ({"ways": 20}, {"shots": 5}, {"queries": 5}, {"split": "val"}, {"data": "omniglot"}):
        assert [len(row.given) for row in match([[a], [result(**other)]])] == [1, 1], other


def test_a_method_may_differ_and_is_said() -> None:
    """A question answered by two scorers is one row, unless one run has both: then each has its own."""
    a, b = result(), result(method="weighted_l1")
    (row,) = match([[a], [b]])
    assert row.setting == "5-way 1-shot"
    rows = match([[a, b], [b]])
    assert [(row.setting, [run for run, _ in row.given]) for row in rows] == [
        ("5-way 1-shot, method default", [0]),
        ("5-way 1-shot, method weighted_l1", [0, 1]),
    ]


def test_rows_that_sound_alike_say_what_they_differ_in() -> None:
    settings = [
        row.setting for row in match([[result(queries=3), result(queries=15), result(seed=4, queries=15)]])
    ]
    assert settings == [
        "5-way 1-shot, queries 3, seed 0",
        "5-way 1-shot, queries 15, seed 0",
        "5-way 1-shot, queries 15, seed 4",
    ]


def test_of_the_same_result_twice_the_later_stands() -> None:
    (row,) = match([[result(accuracy=0.1), result(accuracy=0.2)]])
    assert row.first.accuracy == 0.2


def test_options_that_an_older_result_lacks_are_at_their_default() -> None:
    named = {"protocol": "zero-shot", "ways": 884, "shots": None, "method": None, "templates": ["{}"]}
    assert len(match([[result(**named, queries=None)], [result(**named, queries="all")]])) == 2
    old = result(**named).model_dump(exclude={"queries"})
    assert len(match([[Result(**old)], [result(**named, queries="all")]])) == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, ""),
        ({"method": "weighted_l1"}, ""),
        ({"seed": 1}, "other episodes: seed 0 and 1"),
        ({"episodes": 50}, "other episodes: episodes 40 and 50"),
        ({"episodes_file": "e.safetensors"}, "other episodes: episodes file none and e.safetensors"),
        ({"queries": 5}, "other episodes: queries 3 and 5"),
        ({"data_fingerprint": "beef"}, "other data: f00d and beef"),
        ({"data_fingerprint": ""}, "data not recorded"),
        ({"per_episode": ""}, "no accuracies per episode"),
    ],
)
def test_what_keeps_two_results_from_being_paired(given: dict[str, Any], why: str) -> None:
    kept = {"per_episode": "episodes/0.npy"}
    assert why_not_paired(result(**kept), result(**(kept | given))) == why


def test_other_episodes_are_compared_all_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [
        make_run(tmp_path / "a", [answered(rng.random(30))]),
        make_run(tmp_path / "b", [answered(rng.random(30), seed=1)]),
    ]
    compared = compare_runs(paths)
    (c,) = compared.comparisons
    a, b = (row for row in compared.rows[0].results if row is not None)
    assert c.episodes is None and c.difference.ci95 == pytest.approx(math.hypot(a.ci95, b.ci95))
    assert "not paired: other episodes: seed 0 and 1" in page_of(compared, tmp_path).text


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        (lambda path: np.save(path, np.zeros((3, 2))), "is not a list of accuracies"),
        (lambda path: np.save(path, np.full(40, np.nan)), "has values that are not finite"),
        (lambda path: np.save(path, np.full(30, 0.5)), "other episodes: 40 and 30"),
    ],
)
def test_accuracies_that_cannot_be_used_are_no_reason_to_stop(tmp_path: Path, spoil: Any, why: str) -> None:
    paths = runs_that_differ(tmp_path)
    spoil(paths[1] / "episodes/00-few-shot.npy")
    (c,) = compare_runs(paths).comparisons
    assert c.episodes is None and why in c.why and c.difference.p is not None


def test_pairs_of_images_are_paired_like_episodes(tmp_path: Path) -> None:
    """A protocol that this version does not know, with an answer for each pair."""
    rng, paths = np.random.default_rng(0), []
    for name, rate in (("a", 0.7), ("b", 0.9)):
        right = (rng.random(600) < rate).astype(float)
        curve = {"far": [0, 0.01, 1], "tar": [0.1, rate, 1], "low": [0, rate - 0.1, 1], "high": [0.2, 1, 1]}
        answer = answered(
            right, protocol="pairs", ways=None, shots=None, episodes=10, roc=curve, cmc=[rate, 1.0]
        )
        paths.append(make_run(tmp_path / name, [answer]))
    compared = compare_runs(paths)
    (c,) = compared.comparisons
    assert c.episodes == 600 and c.significant
    page = page_of(compared, tmp_path)
    assert "verification" in page.ids and "paired over 600 answers" in page.text
    assert "A 70.0%" in page.text and "B 90.0%" in page.text


def test_all_comparisons_of_the_page_are_corrected_together(tmp_path: Path) -> None:
    rng, runs = np.random.default_rng(0), []
    for n in range(3):
        answers = [answered(rng.random(30) + 0.1 * n, f"episodes/{w}.npy", ways=w) for w in (5, 20)]
        runs.append(make_run(tmp_path / f"run{n}", answers))
    compared = compare_runs(runs)
    ps = [c.difference.p for c in compared.comparisons]
    assert len(ps) == 6
    ascending = sorted(p for p in ps if p is not None)
    smallest = min(compared.comparisons, key=lambda c: c.difference.p or 0)
    assert smallest.corrected == pytest.approx(min(1, 6 * ascending[0]))
    assert "over 6 comparisons" in page_of(compared, tmp_path).text


def test_what_no_test_tells_from_the_best_is_marked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.random(100)
    answers = [base, base + 0.3, base + 0.3 + 0.01 * rng.normal(size=100)]
    paths = [make_run(tmp_path / f"r{n}", [answered(a)]) for n, a in enumerate(answers)]
    compared = compare_runs(paths)
    marks = ranking(compared.rows[0], compared.comparisons)
    best = max((1, 2), key=lambda n: answers[n].mean())
    assert marks == {0: "", best: "best", 3 - best: "near"}
    assert ranking(compared.rows[0], compare([], [])) == {0: "", best: "best", 3 - best: ""}


def test_accuracy_over_shots_is_drawn(tmp_path: Path) -> None:
    paths = [
        make_run(tmp_path / name, [result(shots=k, accuracy=0.6 + k / 100) for k in shots])
        for name, shots in (("a", (1, 5, 20)), ("b", (1,)))
    ]
    page = page_of(compare_runs(paths), tmp_path)
    assert "shots" in page.ids and "A 80.0%" in page.text
    shots = page.text[page.text.index("support images per class") : page.text.index("Losses are smoothed")]
    assert " B " not in shots  # one number of shots is no curve
    assert "shots" not in page_of(compare_runs(paths[1:]), tmp_path).ids


def test_eight_runs_keep_their_colors_and_letters(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / f"run{n}", [result(accuracy=0.5 + n / 100)]) for n in range(MOST)]
    out = tmp_path / "page.html"
    write_comparison(compare_runs(paths), out)
    text = out.read_text(encoding="utf-8")
    for n, letter in enumerate("ABCDEFGH"):
        assert f'style="background:{PALETTE[n]}" title="run{n}">{letter}<' in text
    with pytest.raises(RunError, match="at most 8 runs"):
        compare_runs([*paths, make_run(tmp_path / "more", [])])


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / place / "same", [result()]) for place in ("here", "there")]
    assert [run.name for run in compare_runs(paths).runs] == [str(path) for path in paths]
    with pytest.raises(RunError, match="more than once"):
        compare_runs([paths[0], tmp_path / "there" / ".." / "here" / "same"])


def test_runs_with_nothing_in_common(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / "a", []), make_run(tmp_path / "b", [result()], weights=False)]
    with pytest.raises(RunError, match=r"nothing to compare: a has no results; b has few-shot ") as error:
        compare_runs(paths)
    assert "\n" not in str(error.value)
    page_of(compare_runs(paths[1:]), tmp_path)


def test_the_command_writes_page_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = runs_that_differ(tmp_path)
    out, file = tmp_path / "both.html", tmp_path / "both.json"
    with pytest.raises(SystemExit) as error:
        main(["report", *map(str, paths), "--out", str(out), "--json", str(file)])
    assert error.value.code == 0
    said = capsys.readouterr().out
    for words in (
        "first",
        "second",
        "5-way 1-shot",
        "second - first",
        "paired over 40 episodes",
        "1 comparison;",
    ):
        assert words in said, words
    written = json.loads(file.read_text())
    (difference,) = written["differences"]
    assert difference["paired"] and difference["p"] <= difference["p_holm"]
    assert [run["steps"] for run in written["runs"]] == [40, 40]
    assert set(written["results"][0]["results"]) == {"first", "second"}
    assert "<title>first and second</title>" in out.read_text()


def test_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_run(tmp_path / "mine", [])
    assert "did you mean 'mine'?" in fails(capsys, "report", str(tmp_path / "mien"))
    line = fails(capsys, "report", str(tmp_path / "mine"), str(tmp_path))
    assert f"{tmp_path} is not a run folder" in line and "vlfew train" in line


def test_a_run_that_is_not_finished(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = make_run(tmp_path / "mine", [])
    (path / "results.json").unlink()
    line = fails(capsys, "report", str(path))
    assert "not evaluated" in line and f"vlfew train {path / 'config.yaml'} --runs {tmp_path}" in line
    (path / "model.json").unlink()
    assert "not fully trained" in fails(capsys, "report", str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "cannot be read"),
        ("{}", "not a list of results"),
        (
            '[{"protocol": "few-shot", "accuracy": 0.5}]',
            "result 1 has missing or wrong fields: ci95, command, data",
        ),
        ("[3]", "result 1"),
    ],
)
def test_results_that_cannot_be_used(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(RunError, match=words) as error:
        read_results(path)
    assert str(path) in str(error.value) and "only evaluates" in str(error.value)


def test_results_of_an_older_form_are_compared_without_pairing(tmp_path: Path) -> None:
    paths = runs_that_differ(tmp_path)
    for path in paths:
        (entry,) = json.loads((path / "results.json").read_text())
        for name in ("data_fingerprint", "trained_on", "skipped_images", "note", "per_episode", "method"):
            entry.pop(name, None)
        (path / "results.json").write_text(json.dumps([entry]))
    compared = compare_runs(paths)
    assert [c.why for c in compared.comparisons] == ["data not recorded"]
    page_of(compared, tmp_path)


def test_all_classes_of_other_data_are_another_task() -> None:
    """`ways: all` with three classes, and with two: chance differs."""
    three, two = (result(ways=ways, options={"ways": "all"}) for ways in (3, 2))
    assert len(match([[three], [two]])) == 2 and len(match([[three], [three]])) == 1
