"""The page and the table of a comparison of methods: true to its figures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.report.test_report import Page
from vlfew.evaluation.adaptation.compare import Adaptation, Cell, Figure
from vlfew.report.adaptation_report import adaptation_table, write_adapted


def cell(method: str, shots: int, mean: float, weight: float, new: Figure | None = None) -> Cell:
    accuracy = Figure(mean, 0.0234, [mean - 0.01, mean, mean + 0.01])
    ece, scaled = Figure(0.401, 0.01, [0.4] * 3), Figure(0.025, 0.01, [0.02] * 3)
    options = [{"text_weight": weight, "metric": "cosine"}] * 3
    return Cell(method, shots, accuracy, new, new, ece, scaled, [0.05] * 3, options, 0.123, 1.0)


FOUND = Adaptation(
    model="runs/<x>",
    command="vlfew adapt 'runs/<x>'",
    data="tiny",
    data_fingerprint="0123",
    split="test",
    support_split="test",
    trained_on="tiny/train",
    outside_data=False,
    input_size=[1, 16, 16],
    classes=7,
    queries=[40, 40, 41],
    shots=[1, 4],
    repeats=[0, 1, 2],
    tune_on="val-classes",
    chosen_by="options by others",
    base_to_new=False,
    templates=["{}"],
    descriptions="",
    methods=["prototypes", "tip_adapter"],
    left_out=["zero_shot"],
    notes=["a part of the data"],
    cells=[
        cell("prototypes", 1, 0.5, 0.3),
        cell("prototypes", 4, 0.7, 0.3),
        cell("tip_adapter", 1, 0.6123, 0.3),
        cell("tip_adapter", 4, 0.8, 0.9),
    ],
)


def printed(found: Adaptation) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(adaptation_table(found))
    return out.getvalue()


def drawn(found: Adaptation, path: Path) -> str:
    write_adapted(path, found)
    html = path.read_text()
    Page(html)
    return html


def test_table() -> None:
    head, first, second = (line.split() for line in printed(FOUND).strip().splitlines())
    assert head == ["method", "1", "shot,", "%", "4", "shots,", "%"]
    assert first == ["prototypes", "50.00", "±", "2.34", "70.00", "±", "2.34"]
    assert second == ["tip_adapter", "61.23", "±", "2.34", "80.00", "±", "2.34"]


def test_an_interval_ends_at_what_there_can_be(tmp_path: Path) -> None:
    sure = replace(FOUND, cells=[cell("prototypes", k, 0.99, 0.3) for k in (1, 4)], methods=["prototypes"])
    assert "99.00 (96.66 to 100.00)" in printed(sure)
    html = drawn(sure, tmp_path / "sure.html")
    assert "99.00 (96.66 to 100.00)" in html and "101" not in html and "105" not in html


def test_page_tells_figures_choices_and_what_was_left_out(tmp_path: Path) -> None:
    html = drawn(FOUND, tmp_path / "a.html")
    for said in (
        "61.23 ± 2.34",
        "40.1 → 2.5",
        "tip adapter 80.0%",
        "text weight 0.9",
        "Options by others",
        "0.12 s",
    ):
        assert said in html, said
    assert "Left out, since they need words: zero shot." in html and "a part of the data" in html
    assert "runs/&lt;x&gt;" in html and "<x>" not in html
    # An option that is the same everywhere says nothing.
    assert "metric" not in html and "text weight 0.3" in html
    assert "40 to 41 images in a draw" in html
    assert html.count('class="whiskers') == 2 and "http" not in html.replace("http-equiv", "")


def test_lines_stand_beside_each_other(tmp_path: Path) -> None:
    html = drawn(FOUND, tmp_path / "a.html")
    starts = [part.split(" ")[0] for part in html.split('d="M')[1:] if 'class="line' in part.split(">")[0]]
    assert len(set(starts)) == 2


def test_new_classes(tmp_path: Path) -> None:
    new = Figure(0.4, 0.01, [0.4] * 3)
    cells = [*FOUND.cells[:2], *(replace(c, new=new, harmonic=new) for c in FOUND.cells[2:])]
    found = replace(FOUND, base_to_new=True, cells=cells, classes=8)
    lines = printed(found).splitlines()
    assert lines[2].split() == ["prototypes", "new", "–", "–"]
    assert lines[5].split()[:2] == ["tip_adapter", "new"] and "40.00 ± 1.00" in lines[5]
    html = drawn(found, tmp_path / "a.html")
    assert html.count('class="whiskers') == 1 and "Harmonic mean of base and new" in html and "25%" in html
    none = replace(found, cells=[replace(c, new=None, harmonic=None) for c in cells])
    assert "None of these methods answers" in drawn(none, tmp_path / "b.html")


def test_a_single_seed_and_number_of_shots(tmp_path: Path) -> None:
    cells = [replace(c, accuracy=Figure(0.5, None, [0.5]), ece_scaled=None) for c in FOUND.cells[::2]]
    found = replace(FOUND, repeats=[0], shots=[1], cells=cells, tune_on="none")
    assert printed(found).splitlines()[1].split() == ["prototypes", "50.00"]
    html = drawn(found, tmp_path / "a.html")
    assert "±" not in html and "→" not in html and "With one seed there are none" in html
