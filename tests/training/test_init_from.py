"""Training that starts from another run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import CONFIG
from vlfew.cli import main
from vlfew.data.labeled_images import LabeledImages
from vlfew.models import DualStream, load
from vlfew.workflows.configured_model import initialize

SHORT = ["optim.steps=2", "optim.warmup_steps=0", "training.eval_every=2", "evaluate=[]"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, images: Path) -> tuple[Path, Path]:
    """A configuration, and the run of it."""
    folder = tmp_path_factory.mktemp("first")
    config = folder / "small.yaml"
    config.write_text(CONFIG.format(root=images))
    assert trained(config, folder) == 0
    return config, folder / "small"


def trained(config: Path, runs: Path, *overrides: str) -> object:
    """The exit status of `vlfew train`."""
    with pytest.raises(SystemExit) as ended:
        main(["train", str(config), "--runs", str(runs), *SHORT, *overrides])
    return ended.value.code


def started(first: tuple[Path, Path], *overrides: str) -> object:
    return trained(first[0], first[1].parent, *overrides)


def test_what_is_frozen_stays_that_of_the_first_run(first, capsys) -> None:
    run = first[1]
    overrides = [f"init_from={run}", "name=second", "image.frozen=true", "embedding_dim=6", "seed=1"]
    evaluated = ["evaluate=[{protocol: few-shot, ways: 3, queries: 3, episodes: 20}]"]
    assert started(first, *overrides, *evaluated) == 0
    one, two = (load_file(run.parent / name / "model.safetensors") for name in ("small", "second"))
    same = [n for n in one if n.startswith(("backbone.", "pixel_"))]
    assert len(same) > 4 and all(torch.equal(one[n], two[n]) for n in same)
    assert len(two["image_projection.weight"]) == 6
    note = f"starts from the weights of {run}, trained on folder/train; new: image_projection"
    assert note in capsys.readouterr().err
    (result,) = json.loads((run.parent / "second" / "results.json").read_text())
    assert result["outside_data"] == "" and note in result["note"]  # the same training split
    metadata = json.loads((run.parent / "second" / "model.json").read_text())["metadata"]
    assert metadata["started_from"] == {"model": str(run), "fingerprint": load(run).fingerprint}


def outside_data(run: Path) -> str:
    return str(json.loads((run / "model.json").read_text())["model"]["outside_data"])


def test_the_data_of_another_training_are_outside_data(first, images, tmp_path) -> None:
    runs = first[1].parent
    other = shutil.copytree(images, tmp_path / "other")
    next(other.glob("train/*/*")).unlink()
    assert started(first, "name=elsewhere", f"data.root={other}", f"init_from={first[1]}") == 0
    assert outside_data(runs / "elsewhere") == "folder/train"
    assert started(first, "name=back", f"init_from={runs / 'elsewhere'}") == 0
    assert outside_data(runs / "back") == "folder/train"


def test_the_data_of_published_weights_stay_outside_data(tiny: LabeledImages) -> None:
    published = load("efficientnet_lite0")
    options = {"backbone_options": {"load": False}, "outside_data": ""}
    model = DualStream.from_spec(published.spec.model_copy(update=options))
    initialize(model, tiny, "efficientnet_lite0")
    assert model.spec.outside_data == "ImageNet-1k"
    assert all(torch.equal(own, published.state_dict()[name]) for name, own in model.state_dict().items())


def test_a_chain_of_initializations_is_in_the_notes(first) -> None:
    run = first[1]
    assert started(first, "name=next", f"init_from={run}") == 0
    assert started(first, "name=after", f"init_from={run.parent / 'next'}") == 0
    notes = json.loads((run.parent / "after" / "model.json").read_text())["metadata"]["notes"]
    assert (
        f"{run.parent / 'next'}, trained on folder/train, which starts from the weights of {run}" in notes[0]
    )


def test_a_killed_run_does_not_go_on_from_other_weights(first, tmp_path, capsys) -> None:
    """Frozen weights are in no checkpoint: they are those of `init_from`, which may have changed since."""
    run = first[1]
    assert started(first, "name=other", "seed=3") == 0
    begun = ["name=third", f"init_from={tmp_path / 'start'}", "image.frozen=true"]
    (tmp_path / "start").symlink_to(run)
    assert started(first, *begun) == 0
    for name in ("model.safetensors", "model.json", "results.json"):
        (run.parent / "third" / name).unlink()
    (tmp_path / "start").unlink()
    (tmp_path / "start").symlink_to(run.parent / "other")
    capsys.readouterr()
    assert started(first, *begun) == 2
    assert "weights to start from" in capsys.readouterr().err


def test_evaluated_again_the_result_has_the_note_too(first, tmp_path) -> None:
    run = first[1]
    assert started(first, "name=fifth", f"init_from={run}") == 0
    options = ["--ways", "3", "--queries", "3", "--episodes", "5"]
    with pytest.raises(SystemExit):
        main(
            [
                "evaluate",
                "few-shot",
                str(run.parent / "fifth"),
                *options,
                "--json",
                str(tmp_path / "again.json"),
            ]
        )
    (result,) = json.loads((tmp_path / "again.json").read_text())
    assert f"starts from the weights of {run}" in result["note"]


def test_of_several_runs_one_must_be_named(first, capsys) -> None:
    folder = first[1].parent
    assert started(first, "name=pair", "repeat={over: seed, values: [0, 1]}") == 0
    assert started(first, "name=sixth", f"init_from={folder / 'pair'}") == 2
    assert (
        f"holds 2 models; choose one of them, such as {folder / 'pair' / 'seed-0'}" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["init_from=runs/nothing"], "no model 'runs/nothing'"),
        (["image.width=4"], "backbone differs from the trained model"),
        (["data.channels=3"], "takes images of 1 channel(s), not 3"),
    ],
)
def test_another_network_or_none_is_an_error_before_training(first, overrides, named, capsys) -> None:
    assert started(first, f"init_from={first[1]}", "name=fourth", *overrides) == 2
    error = capsys.readouterr().err
    assert "init_from=" in error and named in error
    assert not (first[1].parent / "fourth").exists()


def test_published_weights_are_not_fetched_to_be_replaced(first, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tower = ["image={backbone: 'timm:test_vit', pretrained: false}", "data.image_size=48", "name=tower"]
    assert started(first, *tower) == 0
    tower[0] = tower[0].replace("false", "true")
    assert started(first, *tower[:2], "name=again", f"init_from={first[1].parent / 'tower'}") == 0
