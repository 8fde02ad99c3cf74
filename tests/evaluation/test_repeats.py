"""Results of several runs merged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vlfew.core.errors import RunError
from vlfew.evaluation.repeats import merge_results
from vlfew.evaluation.results import Result, read_results, results_frame, write_csv, write_results
from vlfew.report.formatting import accuracy


def result(accuracy: float, fingerprint: str = "x", **more: object) -> Result:
    fields = dict(
        protocol="verification", data="lfw", split="test", accuracy=accuracy, ci95=0.01, episodes=600, seed=0,
        input_size=[3, 64, 64], outside_data=False, command="vlfew evaluate runs/lfw", data_fingerprint=fingerprint,
    )  # fmt: skip
    return Result(**(fields | more))


def test_folds_are_averaged_and_their_pairs_counted() -> None:
    curves = [[0.1, 0.5, 1.0], [0.3, 0.7, 1.0], [0.2, 0.6, 1.0]]
    runs = [
        result(a, f"fold {n}", auc=a + 0.05, pairs=600, roc={"far": [0.01, 0.1, 1], "tar": curve},
               note=f"fold {n}; unrestricted", unknown=10 + 2 * n, threshold=a, mistakes=[n])
        for n, (a, curve) in enumerate(zip([0.8, 0.9, 0.88], curves, strict=True))
    ]  # fmt: skip
    merged = merge_results(runs, "data.fold", [1, 2, 3])
    assert merged.accuracy == pytest.approx(0.86)
    assert merged.get("standard_error") == pytest.approx(np.std([0.8, 0.9, 0.88], ddof=1) / np.sqrt(3))
    assert merged.ci95 == pytest.approx(4.30265 * merged.get("standard_error"))
    assert merged.get("auc") == pytest.approx(0.91)
    assert merged.get("pairs") == merged.episodes == 1800
    assert merged.get("accuracies") == [0.8, 0.9, 0.88] and merged.get("repeats") == 3
    roc = merged.get("roc")
    assert roc["tar"] == pytest.approx([0.2, 0.6, 1]) and roc["low"][0] == pytest.approx(0.2 - 0.1 / 3**0.5)
    assert merged.note == "fold 0 (1 of 3 runs); unrestricted; fold 1 (1 of 3 runs); fold 2 (1 of 3 runs)"
    assert merged.get("values") == [1, 2, 3] and merged.get("unknown") == 12
    assert merged.get("threshold") is None and merged.get("mistakes") is None


def test_seeds_share_their_pairs() -> None:
    merged = merge_results([result(0.8, pairs=600), result(0.9, pairs=600)], "seed", [0, 1])
    assert merged.get("pairs") == merged.episodes == 600 and merged.data_fingerprint == "x"
    assert merged.get("interval") == "over 2 runs (seed)"


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ({"episodes": 1000}, "1,000 episodes"),
        ({"episodes": 20, "interval": "over classes, as clusters of images"}, "20 classes"),
        ({"episodes": 6000, "interval": "over folds", "fold_accuracies": [0.8] * 10}, "10 folds"),
        ({"episodes": 6000, "interval": "over pairs"}, "6,000 pairs"),
        ({"episodes": 500, "interval": "over draws, as clusters of 20 trials"}, "500 draws"),
        ({"episodes": 1000, "interval": "over 3 runs (seed)", "repeats": 3}, "3 runs"),
    ],
)
def test_the_unit_of_an_interval(fields: dict[str, object], unit: str) -> None:
    assert result(0.5, **fields).interval_unit == unit


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ({"episodes": 1}, "one episode"),
        ({"episodes": 1, "interval": "over classes, as clusters of images"}, "one class"),
        ({"episodes": 1, "interval": "over draws"}, "one draw"),
        ({"episodes": 600, "interval": "over 1 runs (seed)", "repeats": 1}, "one run"),
    ],
)
def test_one_of_anything_has_no_interval_also_in_older_files(
    fields: dict[str, object], unit: str, tmp_path: Path
) -> None:
    path, older = tmp_path / "results.json", result(0.5, ci95=0.0, **fields)
    write_results(path, [older])
    path.write_text(path.read_text().replace('"ci95": null', '"ci95": 0.0'))
    (found,) = read_results(path)
    assert (
        found.ci95 is None
        and found.interval_unit == unit
        and accuracy(found) == f"50.00 (no interval: {unit})"
    )
    write_results(path, [found])
    assert '"ci95": null' in path.read_text() and "NaN" not in path.read_text()


def test_many_that_agree_have_an_interval_of_no_width() -> None:
    same = merge_results([result(0.5), result(0.5)], "seed", [0, 1])
    assert same.ci95 == 0.0 and accuracy(same) == "50.00 ± 0.00"
    assert merge_results([result(0.5)], "seed", [0]).ci95 is None


def test_results_as_a_table_and_as_csv(tmp_path: Path) -> None:
    results = [result(0.5, ways=5, roc={"far": [0.1], "tar": [0.5]}), result(0.25, top5=0.75)]
    table = results_frame(results)
    assert table["accuracy"].tolist() == [0.5, 0.25] and table["top5"].isna().tolist() == [True, False]
    assert "roc" not in table and "input_size" not in table
    assert table["interval_over"].tolist() == ["600 episodes"] * 2
    assert results[0].to_frame().equals(results_frame(results[:1]))
    write_csv(tmp_path / "results.csv", results)
    assert pd.read_csv(tmp_path / "results.csv")["accuracy"].tolist() == [0.5, 0.25]


def test_results_are_saved_and_loaded(tmp_path: Path) -> None:
    written = [result(0.5, ways=5, options={"ways": 5})]
    write_results(tmp_path / "results.json", written)
    assert read_results(tmp_path / "results.json") == written
    # The options had another name before.
    entry = json.loads((tmp_path / "results.json").read_text())[0]
    entry["asked"] = entry.pop("options")
    (tmp_path / "results.json").write_text(json.dumps([entry]))
    assert read_results(tmp_path / "results.json") == written
    (tmp_path / "results.json").write_text("[{}]")
    with pytest.raises(RunError, match=r"result 1 has missing or wrong fields: accuracy, .*protocol"):
        read_results(tmp_path / "results.json")
