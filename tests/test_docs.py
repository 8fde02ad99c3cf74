"""Every command and Python block of README and the pages of docs runs, in order, as it is written.

Trainings are cut to a few steps, one selection and one small evaluation, those of LFW to one fold, searches to two
trials, and glyphs to numbers and punctuation; nothing else is changed.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import real_data
from vlfew.cli import main
from vlfew.losses import LOSSES
from vlfew.scorers import SCORERS

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/training.md",
    "docs/objectives.md",
    "docs/data.md",
    "docs/evaluation.md",
    "docs/adaptation.md",
    "docs/python.md",
    "docs/searching.md",
    "docs/guide.md",
)
"""In an order in which each page finds the runs that it speaks of."""
MODULE = re.compile(r"# (\w+\.py)\n")
"""The first line of a Python block that is a file of its own."""
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHORT = [
    "optim.steps=4",
    "optim.warmup_steps=1",
    "training.validate_every=4",
    "training.checkpoint_every=4",
    "model_selection=null",
    "evaluate=[{protocol: few-shot, ways: 3, queries: 2, episodes: 50, too_few: skip}]",
]


def blocks() -> list[tuple[str, str, str]]:
    """`(file, language, text)` of each block, the README's first."""
    found = []
    for name in PAGES:
        found += [(name, *match) for match in BLOCK.findall((ROOT / name).read_text())]
    return found


def draw(path: Path, seed: int, size: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder as the documents imagine it."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("configs", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    for number, kind in enumerate(("red mug", "old boot", "tin can", "fir cone", "glass bowl") * 4):
        for picture in range(4):
            draw(
                folder / "my_pictures" / f"{kind} {'abcd'[number // 5]}" / f"{picture}.png",
                10 * number + picture,
            )
    for number, name in enumerate(
        ("my_sign.png", "arrow1.png", "arrows/a.png", "letters/a.png", "new_pictures/x.png")
    ):
        draw(folder / name, 1000 + number)
    pairs = ["first,second,same"]
    for number in range(20):
        for picture in (1, 2):
            draw(folder / "my_pairs" / f"p{number}" / f"{picture}.png", 2000 + number)
        pairs.append(f"p{number}/1.png,p{number}/2.png,1")
        pairs.append(f"p{number}/1.png,p{(number + 1) % 20}/1.png,0")
    (folder / "my_pairs" / "pairs.csv").write_text("\n".join(pairs) + "\n")
    for page, name in (("README.md", "classes.yaml"), ("docs/searching.md", "space.yaml")):
        texts = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        (folder / name).write_text(texts[0])
    return folder


def as_arguments(line: str) -> list[str] | None:
    """The arguments of `vlfew` that a command line stands for; None for the test command itself."""
    line = line.removeprefix("pip install uv && uv run ")
    words = shlex.split(line)
    if words[0] == "pytest":
        return None
    if words[:3] == ["accelerate", "launch", "scripts/train.py"]:
        words = ["vlfew", "train", *words[3:]]
    assert words[0] == "vlfew", f"a command that this test does not know: {line}"
    return words[1:]


@pytest.mark.parametrize(
    ("name", "language", "text"), blocks(), ids=[f"{n}-{i}" for i, (n, *_) in enumerate(blocks())]
)
def test_block_runs(name, language, text, workspace, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    monkeypatch.setattr("vlfew.data.sources.glyphs.CATEGORIES", "NP")
    for name in ("omniglot", "lfw"):
        if f"data prepare {name}" in text:
            source = real_data(name)
            if not (workspace / name).exists():
                (workspace / name).symlink_to(source)
            monkeypatch.delenv("VLFEW_DATA")
    if language == "python":
        if module := MODULE.match(text):
            (workspace / module[1]).write_text(text)
        # What a block makes known by name, others must not meet.
        monkeypatch.syspath_prepend(workspace)
        for registry in (LOSSES, SCORERS):
            monkeypatch.setattr(registry, "entries", dict(registry.entries))
        exec(compile(text, name, "exec"), {"__name__": "block"})
        return
    for line in text.replace("\\\n", " ").strip().splitlines():
        arguments = as_arguments(line)
        if arguments is None:
            continue
        if arguments[0] == "train":
            arguments += SHORT + (["repeat=null"] if "configs/lfw.yaml" in arguments else [])
        if arguments[0] == "tune":
            arguments[arguments.index("--trials") + 1] = "2"
            arguments += SHORT
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 0, line
    assert os.getcwd() == str(workspace)
