"""Runs with a wavelet transform or a PCA before the backbone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.compare import assert_close
from tests.training.conftest import ENVIRONMENT
from tests.training.test_distributed import TORCHRUN, TRAIN
from vlfew.cli import main
from vlfew.core.errors import VlfewError
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.assemble import Assembly, assemble, load_data_of, read_config
from vlfew.workflows.train import train

FEW = [
    "optim.steps=4",
    "optim.warmup_steps=1",
    "training.eval_every=2",
    "training.save_every=2",
    "training.log_every=1",
]
WAVELET = ["image={backbone: conv4, widths: [8, 8], norm: group, preprocessing: {name: wavelet, level: 2}}"]
PCA = ["image.preprocessing={name: pca, components: 12}"]
BOTH = pytest.mark.parametrize("preprocessing", [WAVELET, PCA], ids=["wavelet", "pca"])


def run_cli(*arguments: object) -> None:
    with pytest.raises(SystemExit) as error:
        main([str(a) for a in arguments])
    assert error.value.code == 0


def assembled(config: Path, overrides: list[str], data: LabeledImages | None = None) -> Assembly:
    return assemble(read_config(config, [*FEW, *overrides]), data=data)


@BOTH
@pytest.mark.parametrize("precision", ["'no'", "bf16"])
def test_trains_evaluates_and_classifies(preprocessing, precision, config, images, capsys):
    run = train(config, [*FEW, *preprocessing, f"training.mixed_precision={precision}"], config.parent)
    name = "wavelet" if preprocessing is WAVELET else "pca"
    assert f"streams    {name} + conv4, no text: " in capsys.readouterr().err
    assert f"{name} + conv4" in run.report.read_text()
    losses = [entry["loss"] for entry in run.read_log() if "loss" in entry]
    assert len(losses) == 4 and all(torch.tensor(losses).isfinite())
    (result,) = json.loads(run.results.read_text())
    arguments = ["--ways", 3, "--shots", 1, "--queries", 3, "--episodes", 100]
    again = config.parent / "again.json"
    run_cli("evaluate", "few-shot", run.path, *arguments, "--json", again)
    assert json.loads(again.read_text())[0]["accuracy"] == result["accuracy"]
    one, other = (images / "test" / c / "0.png" for c in ("test00", "test01"))
    (config.parent / "classes.yaml").write_text(f"a: {{images: {one}}}\nb: {{images: {other}}}\n")
    capsys.readouterr()
    run_cli("classify", run.path, one, other, "--classes", config.parent / "classes.yaml", "--json")
    assert [row["label"] for row in json.loads(capsys.readouterr().out)] == ["a", "b"]


def test_preprocessing_is_fitted_on_training_images_alone(config):
    """Other images to validate and test by change nothing; one other training image does."""
    data = load_data_of(read_config(config))
    pixels = data.images.batch(torch.arange(len(data.images)))
    held_out, learned = pixels.clone(), pixels.clone()
    for split in ("val", "test"):
        held_out[data.indices(split)] = 255 - held_out[data.indices(split)]
    learned[data.indices("train")[3]] = 255 - learned[data.indices("train")[3]]
    first, second, third = (
        assembled(config, PCA, replace(data, images=InMemory(p))).model.preprocessing.state_dict()
        for p in (pixels, held_out, learned)
    )
    assert len(first) == 3 and all(torch.equal(first[key], second[key]) for key in first)
    assert not any(torch.equal(first[key], third[key]) for key in first)


def test_a_sample_is_spread_over_the_split(config):
    """Six of 48 images are an image of nearly every class, not the first class alone."""
    data = load_data_of(read_config(config))
    model = assembled(config, ["image.preprocessing={name: pca, components: 2, images: 6}"]).model
    taken = data.indices("train")[[0, 9, 18, 28, 37, 47]]
    mean = model.normalize_pixels(data.images.batch(taken)).flatten(1).mean(0)
    assert_close(model.preprocessing.mean, mean)


@BOTH
def test_resumed_it_ends_with_the_same_weights(preprocessing, config, monkeypatch):
    """Resumed at step 2, as after a kill: what was fitted comes from the checkpoint."""
    run = train(config, [*FEW, *preprocessing], config.parent)
    copy = config.parent / "copy" / "small"
    shutil.copytree(run.path, copy)
    for path in [copy / "model.json", copy / "results.json", *copy.glob("checkpoints/step-00000004.*")]:
        path.unlink()
    monkeypatch.setattr("vlfew.workflows.configured_model.fit_preprocessing", lambda *_: None)
    train(config, [*FEW, *preprocessing], copy.parent)
    for name in ("model.safetensors", "checkpoints/step-00000004.safetensors"):
        once, twice = load_file(run.path / name), load_file(copy / name)
        assert once.keys() == twice.keys() and any("preprocessing." in key for key in once)
        assert all(torch.equal(once[key], twice[key]) for key in once)


def test_two_processes_see_what_one_does(config):
    overrides = [*FEW, *PCA, "augment={}"]
    one = train(config, overrides, config.parent / "one")
    command = [*TORCHRUN, str(TRAIN), str(config), *overrides, "--runs", str(config.parent / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    two = RunFolder(config.parent / "two" / "small")
    losses = [[entry["loss"] for entry in run.read_log() if "loss" in entry] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    weights = [load_file(run.path / "model.safetensors") for run in (one, two)]
    for key in ("mean", "deviation"):
        first, second = (w[f"preprocessing.{key}"] for w in weights)
        assert_close(first, second)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "image.preprocessing={name: wavelet, levle: 2}",
            "unknown key 'image.preprocessing.levle' of preprocessing 'wavelet'; did you mean 'level'?",
        ),
        (
            "image.preprocessing={name: wavelet, taps: 4}",
            "unknown key 'image.preprocessing.taps' of preprocessing 'wavelet'",
        ),
        ("image.preprocessing={name: wavelt}", "unknown preprocessing 'wavelt'; did you mean 'wavelet'?"),
        ("image.preprocessing={level: 2}", "'image.preprocessing.name' must be given"),
        (
            "image.preprocessing={name: pca, components: many}",
            "'image.preprocessing.components' of preprocessing 'pca'",
        ),
        (
            "image.preprocessing={name: wavelet, keep: details}",
            "'image.preprocessing.keep' of preprocessing 'wavelet'",
        ),
        (
            "image.preprocessing={name: wavelet, wavelet: harr}",
            "unknown wavelet 'harr'; did you mean 'haar'?",
        ),
        ("image.preprocessing={name: pca, components: 48}", "the 48 training images it was fitted to"),
        ("image.preprocessing={name: pca, components: 300}", "images of 1 x 16 x 16 have from 1 to 256"),
    ],
)
def test_mistakes_are_one_line(config, override, message):
    with pytest.raises(VlfewError, match=re.escape(message)) as error:
        assembled(config, [override])
    assert "\n" not in str(error.value)


def test_a_mistake_in_a_file_has_its_line(config):
    config.write_text(
        config.read_text().replace(
            "image: {backbone: conv4, width: 8, norm: group}",
            "image:\n  backbone: conv4\n  preprocessing:\n    name: pca\n    component: 8",
        )
    )
    with pytest.raises(VlfewError) as error:
        read_config(config)
    line = 1 + config.read_text().splitlines().index("    component: 8")
    assert str(error.value) == (
        f"{config}:{line}: unknown key 'image.preprocessing.component' of preprocessing 'pca'; "
        "did you mean 'components'?"
    )
