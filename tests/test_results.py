"""The tables of results: published results next to ours, each in the column of its protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.load_script import load_script
from tests.report.test_comparison import make_run, result
from vlfew.core.errors import VlfewError
from vlfew.workflows.assemble import read_config

script = load_script("results")

ROOT = Path(__file__).parents[1]
GLYPHS = """
glyphs:
  standard: 20-way
  systems:
    - system: a Siamese network
      source: X
      figure: "70.5"
      protocol: 5-way | own draw
      checked: yes
      config: configs/quickstart.yaml
      own: {run: first, protocol: few-shot, ways: 5}
      standard: {run: second, protocol: few-shot, ways: 20}
    - {system: a person, source: X, figure: "95", protocol: 5-way, checked: no}
faces:
  standard: pairs
  systems: []
"""


def published(folder: Path, text: str = GLYPHS) -> Path:
    path = folder / "published.yaml"
    path.write_text(text)
    return path


def cells(block: str) -> list[list[str]]:
    """The rows of a Markdown table, starting with the header."""
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if "---" not in line]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    repeated: dict[str, Any] = {"accuracies": [0.89, 0.91], "over": "seed", "values": [0, 1], "repeats": 2}
    first = make_run(
        folder / "first", [result(ways=5, command="vlfew evaluate few-shot first --ways 5", **repeated)]
    )
    second = make_run(folder / "second", [result(ways=20, accuracy=0.5), result(ways=7, accuracy=0.4)])
    return [first, second]


def test_each_result_is_in_the_column_of_its_protocol(tmp_path: Path, runs: list[Path]) -> None:
    heading, table, *further = script.tables(
        script.read_published(published(tmp_path)), script.read_runs(runs)
    )
    assert "glyphs" in heading and "20-way" in heading
    head, siamese, person = cells(table)
    row = dict(zip(head, siamese, strict=True))
    assert (
        row["theirs %"] == "70.5"
        and row["system"] == "a Siamese network (X)"
        and row["config"] == "`configs/quickstart.yaml`"
    )
    assert row["their protocol"] == r"5-way \| own draw"
    assert row["ours, their protocol %"] == "**90.00 ± 1.00** (5-way 1-shot, 2 runs)"
    assert row["ours, standard protocol %"] == "**50.00 ± 1.00** (20-way 1-shot)"
    assert row["runs"] == "2 over seed: 89.0, 91.0; 1"
    assert (
        row["training"] == "5 min 12 s, 40 of 900 steps"
        and row["input"] == "1x16x16"
        and row["outside data"] == "no"
    )
    assert int(row["parameters"].replace(",", "")) > 0
    assert f"vlfew evaluate few-shot {runs[0]} --ways 5" in table.splitlines()  # the current path of the run
    other = dict(zip(head, person, strict=True))
    assert other["theirs %"] == "95 †"  # not checked
    assert {v for k, v in other.items() if k.startswith("ours") or k in ("runs", "parameters")} == {"-"}
    assert "faces" not in "".join([heading, table, *further])  # no run was evaluated on them


def test_other_results_are_in_a_last_table(tmp_path: Path, runs: list[Path]) -> None:
    *_, last = script.tables(script.read_published(published(tmp_path)), script.read_runs(runs))
    (head, row) = cells(last)
    cell = dict(zip(head, row, strict=True))
    assert cell["setting"] == "7-way 1-shot" and cell["accuracy %"] == "**40.00 ± 1.00**"


def test_a_missing_run_is_a_dash(tmp_path: Path, runs: list[Path]) -> None:
    _, table, *further = script.tables(script.read_published(published(tmp_path)), script.read_runs(runs[:1]))
    head, siamese, _ = cells(table)
    row = dict(zip(head, siamese, strict=True))
    assert row["ours, standard protocol %"] == "-" and "90.00" in row["ours, their protocol %"]
    assert further == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ways: 20", "shots: 1", "2 results of second match"),
        ("checked: yes", "checkd: yes", "glyphs.systems.0.checkd"),
        ("      source: X\n", "", "glyphs.systems.0.source"),
        ("own: {run: first,", "own: {", "glyphs.systems.0.own.run"),
        ("standard: 20-way", "standard: [", "cannot be read as YAML"),
    ],
)
def test_mistakes_in_published_results(
    tmp_path: Path, runs: list[Path], old: str, new: str, message: str
) -> None:
    assert old in GLYPHS
    path = published(tmp_path, GLYPHS.replace(old, new, 1))
    with pytest.raises(VlfewError) as error:
        list(script.tables(script.read_published(path), script.read_runs(runs)))
    assert message in str(error.value)


def test_two_runs_of_one_name_are_an_error(tmp_path: Path, runs: list[Path]) -> None:
    again = make_run(tmp_path / "first", [])
    with pytest.raises(VlfewError, match="both runs of first; give one of them"):
        script.read_runs([runs[0], again])


def test_a_folder_without_a_finished_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VlfewError, match="nowhere"):
        script.main([str(tmp_path / "nowhere")])


def test_published_results_name_existing_configurations() -> None:
    """And only evaluations that these configurations list."""
    systems = [system for data in script.read_published(script.PUBLISHED).values() for system in data.systems]
    assert any(system.own for system in systems) and any(system.standard for system in systems)
    for system in systems:
        if system.config is None:
            assert system.own is None and system.standard is None
            continue
        config = read_config(ROOT / system.config)
        for ours in (system.own, system.standard):
            if ours is not None:
                assert ours.run.partition("/")[0] == config.name
                assert ours.protocol in [entry.protocol for entry in config.evaluate]


def test_a_bar_is_escaped() -> None:
    assert script.markdown(["a", "b"], [["x|y", "z"]]).splitlines()[-1] == r"| x\|y | z |"
