"""The same run for several values of a key, and their results as one."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import CONFIG
from vlfew.cli import main
from vlfew.core.errors import ConfigError
from vlfew.workflows.train import train

SHORT = ["optim.steps=4", "optim.warmup_steps=1", "training.eval_every=4", "training.save_every=4"]


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    folder = tmp_path_factory.mktemp("repeated")
    config = folder / "small.yaml"
    config.write_text(CONFIG.format(root=images) + "repeat: {over: seed, values: [3, 5]}\n")
    return train(config, SHORT, folder).path


def read(path: Path) -> dict:
    (result,) = json.loads((path / "results.json").read_text())
    return result


def test_a_run_for_each_value_and_the_mean_of_both(repeated: Path) -> None:
    own = [read(repeated / f"seed-{n}") for n in (3, 5)]
    whole = read(repeated)
    assert whole["accuracies"] == [r["accuracy"] for r in own]
    assert whole["accuracy"] == pytest.approx(np.mean(whole["accuracies"]))
    assert whole["repeats"] == 2 and whole["over"] == "seed"
    weights = [(repeated / f"seed-{n}" / "model.safetensors").read_bytes() for n in (3, 5)]
    assert weights[0] != weights[1]
    accuracies = np.load(repeated / whole["per_episode"])
    assert accuracies.shape == (200,) and accuracies.mean() == pytest.approx(whole["accuracy"])


def test_its_command_makes_the_figure_again(
    repeated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = read(repeated)["command"].split()
    assert command[:4] == ["vlfew", "evaluate", "few-shot", str(repeated)]
    with pytest.raises(SystemExit) as left:
        main([*command[1:], "--json", str(tmp_path / "again.json"), "--per-episode", str(tmp_path / "e.npy")])
    assert not left.value.code
    (again,) = json.loads((tmp_path / "again.json").read_text())
    assert again["accuracy"] == read(repeated)["accuracy"] and again["ci95"] == read(repeated)["ci95"]
    assert len(np.load(tmp_path / "e.npy")) == 200


def test_the_same_command_again_trains_nothing(repeated: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in repeated.rglob("model.safetensors")}
    train(repeated.parent / "small.yaml", SHORT, repeated.parent)
    assert (
        before == {p: p.stat().st_mtime_ns for p in repeated.rglob("model.safetensors")} and len(before) == 2
    )


def test_its_results_as_a_markdown_table(
    repeated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "scripts" / "results.py"
    monkeypatch.setattr("sys.argv", ["results.py", str(repeated), str(repeated / "seed-3")])
    runpy.run_path(str(script), run_name="__main__")
    head, line, *rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")]
    assert len(rows) == 2 and {row.count("|") for row in (head, line, *rows)} == {head.count("|")}
    whole = read(repeated)
    assert f"**{100 * whole['accuracy']:.2f} ± {100 * whole['ci95']:.2f}**" in rows[0]
    assert ", ".join(f"{100 * a:.1f}" for a in whole["accuracies"]) in rows[0]


@pytest.mark.parametrize(
    "repeat, message",
    [
        ("{over: sed, values: [1, 2]}", "unknown key 'sed'; did you mean 'seed'"),
        ("{over: seed, values: [1]}", "at least 2"),
        ("{over: seed, values: [1, x]}", "seed"),
        ("{over: seed, values: [1, 1]}", "values must be distinct"),
        ("{over: name, values: [a, b]}", "cannot repeat over name"),
        ("{over: data.root, values: [a/b, c]}", "'a/b' cannot be part of a folder name"),
    ],
)
def test_an_invalid_repeat_is_an_error_before_anything_is_trained(
    tmp_path: Path, images: Path, repeat: str, message: str
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG.format(root=images) + f"repeat: {repeat}\n")
    with pytest.raises(ConfigError, match=message):
        train(config, SHORT, tmp_path)
    assert not (tmp_path / "small").exists()
