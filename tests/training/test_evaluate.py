"""`vlfew.evaluate` and `vlfew.adapt` with models and data by object or by name."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import vlfew
from vlfew.cli import main
from vlfew.core.errors import ConfigError, DataError, VlfewError
from vlfew.evaluation.results import read_results
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import save_model
from vlfew.models.spec import ModelSpec

OPTIONS = {"ways": 3, "queries": 3, "episodes": 60}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A run folder with an untrained model, saved as trained on a folder of images."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    metadata = {"trained_on": "folder/train", "data_fingerprint": "another", "notes": ["a note"]}
    save_model(DualStream.from_spec(spec), folder, metadata)
    return folder


def test_names_and_objects_give_the_same_result(run: Path, images: Path) -> None:
    by_name = vlfew.evaluate(run, "folder", "few-shot", root=images, **OPTIONS)
    model = vlfew.load(run)
    data = vlfew.load_data("folder", images, model.spec.preprocessor())
    by_object = vlfew.evaluate(model, data, "few-shot", **OPTIONS)
    assert by_name.model_dump(exclude={"command"}) == by_object.model_dump(exclude={"command"})
    assert by_object.command == "vlfew.evaluate(model, data, 'few-shot', ways=3, queries=3, episodes=60)"
    assert by_name.trained_on == "folder/train" and not by_name.outside_data
    assert "; a note; not the data it was trained on (folder another, now " in by_name.note
    assert by_name.to_frame()["accuracy"].tolist() == [by_name.accuracy]


def test_the_recorded_command_gives_the_same_result(run: Path, images: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"on_small_class": "skip"}
    result = vlfew.evaluate(run, "folder", root=images, data_options={"center_crop": 0.75}, **options)
    words = shlex.split(result.command)
    assert words[:4] == ["vlfew", "evaluate", "few-shot", str(run)] and words[-1] == "data.center_crop=0.75"
    with pytest.raises(SystemExit) as exit_:
        main([*words[1:], "--json", str(tmp_path / "result.json")])
    assert exit_.value.code == 0
    (again,) = read_results(tmp_path / "result.json")
    assert again == result
    assert result.accuracy != vlfew.evaluate(run, "folder", root=images, **options).accuracy


def test_accuracies_of_episodes_are_written(run: Path, images: Path, tmp_path: Path) -> None:
    file = tmp_path / "episodes.npy"
    result = vlfew.evaluate(run, "folder", root=images, per_episode=file, **OPTIONS)
    assert np.load(file).mean() == pytest.approx(result.accuracy) and len(np.load(file)) == 60


def test_mistakes_are_raised_before_files_are_read(run: Path) -> None:
    with pytest.raises(ConfigError, match="few-shot has no option 'way'; did you mean 'ways'"):
        vlfew.evaluate("no/such/run", "folder", way=5)
    with pytest.raises(VlfewError, match="unknown protocol 'fewshot'"):
        vlfew.evaluate("no/such/run", "folder", "fewshot")
    with pytest.raises(ConfigError, match="adapt has no option 'shot'; did you mean 'shots'"):
        vlfew.adapt("no/such/run", "folder", shot=[1])
    with pytest.raises(DataError, match="name the data to evaluate on"):
        vlfew.evaluate(run)


def test_methods_compared_in_one_call(run: Path, images: Path) -> None:
    result = vlfew.adapt(
        run, "folder", methods="prototypes", shots=[1, 2], repeats=2, root=images, cache=False
    )
    assert result.trained_on == "folder/train" and result.model == str(run)
    assert result.command == (
        f"vlfew adapt {run} --data folder --root {images} --methods prototypes --shots 1,2 --repeats 2"
    )
    table = result.to_frame()
    assert table["shots"].tolist() == [1, 2] and set(table["method"]) == {"prototypes"}
