"""Runs without a validation split, with splits by image, and evaluated on another data set."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vlfew.cli import main
from vlfew.core.config import Config
from vlfew.core.errors import DataError, VlfewError
from vlfew.data import ImagePreprocessor, load_data
from vlfew.workflows.model_selection import choose_model_selection
from vlfew.workflows.train import train

CONFIG = """
data: {{name: {name}, root: {root}, image_size: 16, channels: 1}}
image: {{backbone: conv4, width: 8, norm: group}}
text: {{encoder: null}}
embedding_dim: 16
objective: [{{loss: supervised_contrastive}}]
sampling: {{classes_per_batch: 4, images_per_class: 4}}
optim: {{lr: 0.01, steps: 4, warmup_steps: 1}}
training: {{mixed_precision: 'no', eval_every: 2, save_every: 2, log_every: 1}}
evaluate:
  - {{protocol: few-shot, ways: 3, shots: 1, queries: 1, episodes: 20}}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Forty people, each a pattern with noise."""
    rng, root = np.random.default_rng(0), tmp_path / "faces"
    for person in range(1, 41):
        pattern = rng.integers(0, 200, (11, 9))
        for number in range(1, 11):
            path = root / f"s{person}" / f"{number}.pgm"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pattern + rng.integers(0, 56, (11, 9))).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def config(tmp_path: Path, faces: Path) -> Path:
    path = tmp_path / "faces.yaml"
    path.write_text(CONFIG.format(name="att_faces", root=faces))
    return path


def evaluated(capsys: pytest.CaptureFixture[str], folder: Path, run: Path, *arguments: object) -> dict:
    """The result that `vlfew evaluate few-shot RUN ... --json` writes."""
    file = folder / "again.json"
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "few-shot", str(run), *map(str, arguments), "--json", str(file)])
    assert error.value.code == 0, capsys.readouterr().err
    (result,) = json.loads(file.read_text())
    return result


def test_without_a_validation_split_the_last_weights_are_saved(config: Path) -> None:
    run = train(config, [], config.parent)
    metadata = json.loads((run.path / "model.json").read_text())["metadata"]
    assert "best_step" not in metadata and not (run.checkpoints / "best.json").exists()
    assert not any("validation" in entry for entry in run.read_log())
    model, last = (
        load_file(run.path / "model.safetensors"),
        load_file(run.checkpoints / "step-00000004.safetensors"),
    )
    trained = {name.removeprefix("model."): value for name, value in last.items() if "/" not in name}
    shared = model.keys() & trained.keys()
    assert len(shared) > 8 and all(torch.equal(model[name], trained[name]) for name in shared)
    (result,) = json.loads(run.results.read_text())
    assert result["note"] == "no validation split: the weights of the last step are saved"
    assert result["note"] in run.report.read_text()


def test_resuming_without_a_validation_split_gives_the_same_weights(config: Path) -> None:
    complete = train(config, ["name=complete"], config.parent)
    train(config, ["name=cut"], config.parent)
    cut = config.parent / "cut"
    for path in (cut / "results.json", cut / "model.json", *cut.glob("checkpoints/step-00000004.*")):
        path.unlink()
    resumed = train(config, ["name=cut"], config.parent)
    assert resumed.read_log()[-1]["step"] == 4
    one, other = (load_file(run.path / "model.safetensors") for run in (complete, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_following_the_messages_three_classes_of_five_images_can_be_trained(tmp_path: Path) -> None:
    """With `configs/folder.yaml`, except for its size and length."""
    rng = np.random.default_rng(0)
    for name in ("s1", "s2", "s3"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(rng.integers(0, 256, (12, 9), np.uint8)).save(
                tmp_path / "few" / name / f"{number}.png"
            )
    shipped = Path(__file__).parents[2] / "configs" / "folder.yaml"
    short = [
        f"data.root={tmp_path / 'few'}",
        "data.image_size=16",
        "image.widths=[8, 8, 8, 8]",
        "optim.steps=2",
    ]
    errors = [
        (
            DataError,
            r"few-shot needs the split 'test', .* does not have \(3 classes .*\(evaluate=\[\]",
        ),
        (
            DataError,
            r"'train' has 3 classes, .*needs 8; set sampling\.classes_per_batch=3 or fewer",
        ),
    ]
    for number, (kind, message) in enumerate(errors):
        with pytest.raises(kind, match=message) as error:
            train(
                shipped,
                [*short, *(["evaluate=[]", "sampling.classes_per_batch=3"][:number])],
                tmp_path / "runs",
            )
        assert "\n" not in str(error.value)
        assert not any((tmp_path / "runs").iterdir())  # a run that fails immediately leaves nothing
    run = train(shipped, [*short, "evaluate=[]", "sampling.classes_per_batch=3"], tmp_path / "runs")
    metadata = json.loads((run.path / "model.json").read_text())["metadata"]
    assert "best_step" not in metadata and json.loads(run.results.read_text()) == []
    assert "3 classes are too few to hold some out for val and test" in run.report.read_text()


def test_a_repeated_run_that_fails_immediately_leaves_nothing(config: Path) -> None:
    repeat = "repeat={over: data.fold, values: [1, 2]}"
    with pytest.raises(DataError, match=r"sampling\.classes_per_batch needs 99"):
        train(config, [repeat, "sampling.classes_per_batch=99"], config.parent / "runs")
    assert not any((config.parent / "runs").iterdir())


def test_early_stopping_needs_a_validation_split(config: Path) -> None:
    message = "training.patience needs a validation split, and att_faces .* has none"
    with pytest.raises(VlfewError, match=message) as error:
        train(config, ["training.patience=3"], config.parent)
    assert "\n" not in str(error.value)
    run = train(config, ["training.patience=3", "data.validation_people=5", "name=selected"], config.parent)
    assert "best_step" in json.loads((run.path / "model.json").read_text())["metadata"]


def test_a_recipe_selects_nothing_without_a_validation_split(config: Path) -> None:
    override = "model_selection={protocol: few-shot, queries: 3}"
    run = train(config, [override], config.parent)
    metadata = json.loads((run.path / "model.json").read_text())["metadata"]
    assert "best_step" not in metadata
    assert "no validation split: the weights of the last step are saved" in metadata["notes"]
    run = train(config, [override, "data.validation_people=5", "name=selected"], config.parent)
    assert "best_step" in json.loads((run.path / "model.json").read_text())["metadata"]


def test_results_of_a_split_by_image_have_a_note(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(config, ["data.split=images"], config.parent)
    note = "att_faces is split by image: the classes of this split were trained on"
    (result,) = json.loads(run.results.read_text())
    assert note in result["note"] and note in run.report.read_text()
    assert "images that were not trained on, of the classes that were" in run.report.read_text()
    again = evaluated(capsys, config.parent, run.path, "--ways", 40, "--queries", 1, "--episodes", "each")
    assert note in again["note"] and again["ways"] == 40 and again["episodes"] == 2
    other = evaluated(capsys, config.parent, run.path, "data.split=people", "--queries", 3)
    assert note not in other["note"] and "classes of the test split may have been trained on" in other["note"]


def test_ten_unseen_people_with_each_image_as_support(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    each = "evaluate=[{protocol: few-shot, ways: all, queries: all, episodes: each}]"
    run = train(config, ["data.fold=3", each], config.parent)
    (result,) = json.loads(run.results.read_text())
    assert (result["ways"], result["episodes"], result["queries"]) == (10, 10, "all")
    assert "split by image" not in result["note"]
    assert "classes that were not trained on." in run.report.read_text()
    arguments = ("--ways", "10", "--queries", "all", "--episodes", "each")
    again = evaluated(capsys, config.parent, run.path, *arguments)
    assert again["accuracy"] == result["accuracy"] and again["command"].endswith("--episodes each")


def test_evaluation_can_crop_differently(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model trained on cropped images is evaluated on full images."""
    run = train(config, ["data.center_crop=0.5"], config.parent)
    options = (run.path, "--ways", 10, "--queries", 9, "--episodes", 200)
    full = evaluated(capsys, config.parent, *options, "data.center_crop=1")
    center = evaluated(capsys, config.parent, *options)
    assert full["accuracy"] != center["accuracy"] and full["input_size"] == center["input_size"]
    assert "data.center_crop=1" in full["command"]


def test_an_omniglot_run_is_evaluated_on_dark_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, root = np.random.default_rng(0), tmp_path / "data"
    for part, alphabets in (("background", "ABCDEFG"), ("evaluation", "XY")):
        for character in range(18):
            for drawer in range(1, 5):
                folder = root / "omniglot" / f"images_{part}" / alphabets[character % len(alphabets)]
                path = folder / f"character{character:02}" / f"0001_{drawer:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.random((16, 16)) < 0.9).save(path)
    (root / "mnist").mkdir()
    for stem in ("train", "t10k"):
        images = rng.integers(0, 40, (60, 28, 28), np.uint8)  # light on dark: mostly black
        for name, values in ((f"{stem}-images-idx3", images), (f"{stem}-labels-idx1", np.arange(60) % 10)):
            header = struct.pack(f">{1 + values.ndim}i", 0x800 + values.ndim, *values.shape)
            content = gzip.compress(header + values.astype(np.uint8).tobytes())
            (root / "mnist" / f"{name}-ubyte.gz").write_bytes(content)
    monkeypatch.setenv("VLFEW_DATA", str(root))
    path = tmp_path / "characters.yaml"
    path.write_text(CONFIG.format(name="omniglot", root="null"))
    run = train(path, [], tmp_path)

    digits = ("--data", "mnist", "--ways", 10, "--shots", 1, "--queries", 5, "--episodes", 30)
    result = evaluated(capsys, tmp_path, run.path, *digits, "data.ink=dark")
    assert result["data"] == "mnist" and result["trained_on"] == "omniglot/train" and result["ways"] == 10
    assert result["input_size"] == [1, 16, 16] and "data.ink=dark" in result["command"]
    assert "60 of 10,000 test images available" in result["note"] and "split by image" not in result["note"]
    dark = load_data("mnist", ink="dark")
    assert result["data_fingerprint"] == dark.fingerprint != load_data("mnist").fingerprint
    shutil.rmtree(root / "mnist")
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "few-shot", str(run.path), *map(str, digits)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert error.value.code == 2 and len(lines) == 1 and "no data for 'mnist'" in lines[0]


def test_models_of_captions_are_selected_by_retrieval(tmp_path: Path) -> None:
    """Captions make classes of one image, which allow no few-shot episodes."""
    rows = ["file,caption"]
    for number in range(30):
        Image.new("L", (8, 8), 8 * number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,shade {number}")
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    data = load_data("captions", tmp_path, ImagePreprocessor(16, 1))
    captions = {"name": "captions", "image_size": 16, "channels": 1}
    config = Config.model_validate({"data": captions, "objective": [{"loss": "alignment_softmax"}]})
    selection = choose_model_selection(config, data, has_text=True)
    assert selection is not None and selection.protocol == "retrieval" and selection.options["split"] == "val"
    with pytest.raises(DataError, match=r"add classes or images, or train with text \(text.encoder\)"):
        choose_model_selection(config, data, has_text=False)
