"""Losses in use: named in a configuration, documented, and added by the recipe of CONTRIBUTING.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

import vlfew.losses
from tests.training.conftest import config, images  # noqa: F401
from vlfew.core.errors import ConfigError
from vlfew.losses import LOSSES
from vlfew.losses.objective import losses_with
from vlfew.workflows.train import train as train_run

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/reference/losses.md").read_text()
OBJECTIVES = re.findall(r"^```yaml\n(objective:\n.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
FEW = ["optim.steps=4", "optim.warmup_steps=1", "training.log_every=1", "model_selection=null", "evaluate=[]"]


def train(path: Path, *overrides: str) -> list[dict[str, float]]:
    """What was logged at each step."""
    run = train_run(path, [*FEW, *overrides], path.parent)
    return [entry for entry in run.read_log() if "loss" in entry]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_of_the_guide_train(objective, config):  # noqa: F811
    path = config.with_name("guide.yaml")
    path.write_text(f"base: {config.name}\n{objective}")
    steps = train(path)
    assert len(steps) == 4 and all(torch.tensor(step["loss"]).isfinite() for step in steps)
    logged = {name for step in steps for name in step}
    assert set(re.findall(r"loss: (\w+)", objective)) <= logged


def test_the_guide_has_a_row_for_every_loss_with_its_options():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", GUIDE, re.MULTILINE))
    assert set(LOSSES.names()) <= set(rows)
    for name in LOSSES.names():
        options = LOSSES.options(name).model_fields
        documented = rows[name].rpartition(" | ")[2]
        if documented != "the same":
            assert set(re.findall(r"`(\w+)[`:]", documented)) - {"null", "squared"} == set(options), name
    pairs_only = re.search(
        r"after training\. (.*?) use only whether a pair is of one", GUIDE, re.DOTALL
    ).group(1)
    assert sorted(re.findall(r"`(\w+)`", pairs_only)) == sorted(losses_with("pairs_only"))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The loss of CONTRIBUTING.md, added: its file written, its line registered."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    path, code = re.search(r"```python\n# vlfew/losses/(\w+\.py)\n(.*?)```", text, re.DOTALL).groups()
    folder = tmp_path / "losses"
    folder.mkdir()
    (folder / path).write_text(code)
    monkeypatch.setattr(vlfew.losses, "__path__", [*vlfew.losses.__path__, str(folder)])
    name, target = re.search(r'and, in `vlfew/losses/__init__\.py`, `"(\w+)": "(.+?)"`', text).groups()
    monkeypatch.setitem(LOSSES.entries, name, target)
    yield name
    sys.modules.pop(target.partition(":")[0], None)


def test_one_file_and_one_line_add_a_loss(recipe, config):  # noqa: F811
    one = train(config, f"objective=[{{loss: {recipe}}}]", "name=one", "optim.steps=2")
    half = train(config, f"objective=[{{loss: {recipe}, scale: 0.5}}]", "name=half", "optim.steps=2")
    assert len(one) == 2 and half[0]["loss"] == pytest.approx(one[0]["loss"] / 2)
    with pytest.raises(ConfigError, match=r"unknown key 'objective\.0\.scael' .*; did you mean 'scale'\?"):
        train(config, f"objective=[{{loss: {recipe}, scael: 0.5}}]")
