"""Situations that people reported, as inputs beside the real data: what is said, and with which exit status."""

# ruff: noqa: E501 (a table of cases)
from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import real_data
from vlfew.cli import main

SHOW = "data show {source} --root {root} --image-size 32 --sheet {tmp}/s.png"
TRAIN = (
    "train folder {more} data.image_size=32 optim.steps=2 optim.warmup_steps=1 sampling.classes_per_batch=2 "
    "sampling.images_per_class=2 training.eval_every=2 --runs {tmp}"
)
ZERO_SHOT = "evaluate zero-shot {model} --data folder --split train"

# Case, command, exit status, and what the output says.
CASES = [
    ("01-Train-Test-capitals", "show folder pics", 0, "taken as splits: Test \\(test\\), Train \\(train\\)"),
    ("01-Train-Test-capitals", "show folder kaggle", 0, "taken as splits: .*\\(test\\), .*\\(train\\)"),
    ("03-extensions", "show folder pics", 0, "set aside: .*heic|classes +\\d"),
    ("05-heic-jfif-classify", "classify {model} --classes classes.yaml new", 1, "IMG_0002.jfif(.|\\n)*IMG_0003.jpe"),
    ("05-heic-jfif-classify", "classify {model} --classes classes.yaml new/*.jfif", 0, "IMG_0002.jfif"),
    ("08-mac-unicode", "show folder pics", 0, "names"),
    ("08-mac-unicode", "show captions cap", 0, "images"),
    ("08-mac-unicode", "show pairs pairs", 0, "images"),
    ("08-mac-unicode", "show folder dup", 2, "the key 'a' is repeated"),
    ("09-caption-tables", "show captions semicolon", 0, "images"),
    ("09-caption-tables", "show captions semicolon-commas", 0, "images"),
    ("09-caption-tables", "show folder folder-inclass", 0, "images"),
    ("10-pairs", "evaluate verification {model} --data pairs --root faces data.file=ok.csv", 0, "verification"),
    ("10-pairs", "evaluate verification {model} --data pairs --root faces data.file=dup.csv", 0, "listed again, counted once"),
    ("10-pairs", "evaluate verification {model} --data pairs --root faces data.file=reversed.csv", 0, "listed again, counted once"),
    ("10-pairs", "evaluate verification {model} --data pairs --root faces data.file=onlysame.csv", 2, "different|same"),
    ("15-broken-pictures", "train data.root=pics evaluate=[]", 2, "cannot be read.*on_bad_image=skip"),
    ("15-broken-pictures", "train data.root=pics evaluate=[] data.memory_limit_mb=0", 2, "cannot be read.*on_bad_image=skip"),
    ("15-broken-pictures", "train data.root=pics data.on_bad_image=skip evaluate=[]", 0, "unreadable images? skipped"),
    ("17-same-classes-in-splits", "show folder std", 0, "by image"),
    ("17-same-classes-in-splits", "show folder wrapped", 0, "the class folders are those in"),
    ("20-words-the-encoder-cannot-tell", "classify {model} --classes emoji.yaml new_A.png", 2, "the same tokens"),
    ("20-words-the-encoder-cannot-tell", "classify {model} --classes long.yaml new_A.png", 2, "the same tokens"),
    ("20-words-the-encoder-cannot-tell", f"{ZERO_SHOT} --root pics", 2, "the same tokens"),
    ("20-words-the-encoder-cannot-tell", f"{ZERO_SHOT} --root pics2 --descriptions long.json", 2, "the same tokens"),
    ("20-words-the-encoder-cannot-tell", "train data.root=pics", 2, "the same tokens"),
    ("21-local-models", "classify transformers:clip-notok --classes c.yaml ../20-words-the-encoder-cannot-tell/new_A.png", 2, "no tokenizer files"),
    ("21-local-models", "classify transformers:clip-lfs --classes c.yaml ../20-words-the-encoder-cannot-tell/new_A.png", 2, "Git LFS pointer"),
    ("24-overrides", "train 'data.root=pics #2' evaluate=[] model_selection=null", 0, "folder: \\d+ training images"),
    ("24-overrides", "train data.root=2024 evaluate=[] model_selection=null", 0, "folder: \\d+ training images"),
    ("24-overrides", "train 'data.root=&amp' evaluate=[] model_selection=null", 0, "folder: \\d+ training images"),
    ("29-one-name-like-a-code", "show folder pics", 0, "1 of 8 classes without text, .*: S7"),
    ("29-one-name-like-a-code", "train data.root=pics", 0, "alignment_softmax(.|\\n)*1 of 8 classes without text"),
    ("29-one-name-like-a-code", f"{ZERO_SHOT} --root pics --descriptions missing.json", 0, "zero-shot"),
    *(("11-hf", f"data show hf:{name} --image-size 32 --sheet {{tmp}}/s.png", status, text) for name, status, text in (
        ("bytes", 0, "classes +8"), ("struct", 0, "classes +8"), ("multi", 2, "row 0 is \\[0, 1\\], several labels"),
        ("floats", 0, "codes, not used as text"), ("nulls", 2, "3 of 24 rows have no label"),
    )),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with text after two steps."""
    runs, root = tmp_path_factory.mktemp("runs"), real_data("..", "cases", "29-one-name-like-a-code", "pics")
    command = TRAIN.format(more=shlex.join([f"data.root={root}", "evaluate=[]"]), tmp=runs)
    with pytest.raises(SystemExit) as done:
        main(shlex.split(command))
    assert done.value.code == 0
    return runs / "folder"


def fast_first(case: tuple[str, str, int, str]) -> object:
    """Commands that load a model are slow tests."""
    return case if "show" in case[1] else pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(("case", "command", "status", "said"), map(fast_first, CASES))
def test_case(
    case: str,
    command: str,
    status: int,
    said: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases = real_data("..", "cases")
    verb, *words = shlex.split(command)
    if verb == "show":
        command = SHOW.format(source=words[0], root=words[1], tmp=tmp_path)
    elif verb == "train":
        command = TRAIN.format(more=shlex.join(words), tmp=tmp_path)
    shutil.copytree(cases / case, tmp_path / "case")
    other = "20-words-the-encoder-cannot-tell"
    shutil.copytree(cases / other, tmp_path / other)
    monkeypatch.chdir(tmp_path / "case")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = request.getfixturevalue("model") if "{model}" in command else ""
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(shlex.split(command.format(model=model, tmp=tmp_path)))
    captured = capsys.readouterr()
    output = captured.out + captured.err
    assert done.value.code == status, output
    assert re.search(said, output), output
    assert "Traceback" not in output
    assert status != 2 or len(captured.err.strip().splitlines()) == 1, output
