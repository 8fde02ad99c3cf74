"""Runs on pairs: every form of batch, image-restricted training, encoders without shared weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vlfew.core.errors import ConfigError
from vlfew.models import load
from vlfew.workflows.train import train as train_run

FEW = ["optim.steps=4", "optim.warmup_steps=1", "training.eval_every=2", "training.save_every=2"]
PLAIN = "sampling={pairs_per_batch: 20}"


def train(config: Path, *overrides: str) -> tuple[Path, dict]:
    """The run folder and its only result."""
    run = train_run(config, [*FEW, "training.log_every=1", *overrides], config.parent)
    losses = [entry["loss"] for entry in run.read_log() if "loss" in entry]
    assert len(losses) == 4 and all(torch.tensor(losses).isfinite())
    (result,) = json.loads(run.results.read_text())
    return run.path, result


@pytest.mark.parametrize(
    ("sampling", "objective", "size"),
    [
        (PLAIN, "[{loss: contrastive}, {loss: supervised_contrastive}]", 40),
        (
            "sampling={episodes_per_batch: 4, ways: 5}",
            "[{loss: contrastive}, {loss: prototypical}]",
            24,
        ),
    ],
    ids=["pairs", "episodes"],
)
def test_every_form_of_batch_trains(config: Path, sampling: str, objective: str, size: int) -> None:
    path, _ = train(config, sampling, f"objective={objective}")
    assert f"4 steps of {size} images" in (path / "report.html").read_text()


def test_a_run_on_pairs_resumes_to_the_same_weights(config: Path) -> None:
    overrides = (PLAIN, "objective=[{loss: contrastive}]", "image.share_weights=false")
    whole, _ = train(config, *overrides, "name=whole")
    cut, _ = train(config, *overrides, "name=cut")
    for path in (cut / "results.json", cut / "model.json", *cut.glob("checkpoints/step-00000004.*")):
        path.unlink()
    train_run(config, [*FEW, "training.log_every=1", *overrides, "name=cut"], config.parent)
    one, other = (load_file(path / "model.safetensors") for path in (whole, cut))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("similarity", "loss"), [("cosine", "contrastive"), ("weighted_l1", "binary_cross_entropy")]
)
def test_encoders_that_share_no_weights(config: Path, similarity: str, loss: str, capsys) -> None:
    path, result = train(
        config,
        PLAIN,
        "image.share_weights=false",
        f"similarity={similarity}",
        f"objective=[{{loss: {loss}}}]",
        "evaluate=[{protocol: verification, pairs: 40, folds: 2}]",
    )
    assert 0 <= result["accuracy"] <= 1
    model = load(path)
    trained = sum(p.numel() for p in model.parameters())
    assert f"{trained:,} trained" in (path / "report.html").read_text()
    assert f"conv4 twice, no weights shared, no text: {trained:,} parameters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["image.share_weights=false"],
            r"objective: supervised_contrastive compares images by one embedding each, and "
            r"image\.share_weights=false gives two; losses that work here: contrastive, ",
        ),
        (
            ["sampling.pairs_per_batch=4"],
            "a batch has one form: classes_per_batch and images_per_class or pairs_per_batch",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_an_error(
    config: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        train_run(config, overrides, config.parent)
    assert "\n" not in str(error.value)


@pytest.fixture
def own_pairs(tmp_path: Path) -> Path:
    """Twelve people of two images in three folds, and pairs among them."""
    rng, root, lines = np.random.default_rng(0), tmp_path / "own", ["first,second,same,fold"]
    for person in range(12):
        pattern = rng.integers(0, 200, (16, 16))
        for number in (1, 2):
            path = root / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pattern + rng.integers(0, 56, (16, 16))).astype(np.uint8)).save(path)
        fold = person // 4
        lines.append(f"p{person}/1.png,p{person}/2.png,1,{fold}")
        lines.append(f"p{person}/1.png,p{4 * fold + (person + 1) % 4}/2.png,0,{fold}")
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")
    return root


def test_training_uses_only_the_annotated_pairs(
    config: Path, own_pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, result = train(
        config,
        f"data={{name: pairs, root: {own_pairs}, fold: 2, image_size: 16, channels: 1}}",
        "sampling={annotated_pairs_per_batch: 8}",
        "objective=[{loss: contrastive}]",
        "model_selection={protocol: verification}",
        "evaluate=[{protocol: verification}]",
    )
    assert "8 training images of 8 pairs" in capsys.readouterr().err
    assert result["pairs"] == 8 and result["threshold_chosen_on"] == "8 pairs of val"
    assert (path / "report.html").exists()


def test_a_loss_over_classes_is_an_error_where_only_pairs_are_known(config: Path, own_pairs: Path) -> None:
    overrides = [
        f"data={{name: pairs, root: {own_pairs}, fold: 2, image_size: 16, channels: 1}}",
        "sampling={annotated_pairs_per_batch: 8}",
        "model_selection={protocol: verification}",
        "evaluate=[]",
    ]
    message = (
        r"objective: supervised_contrastive needs classes, and sampling\.annotated_pairs_per_batch provides only "
        r"which pairs are the same; losses that work here: contrastive, "
    )
    with pytest.raises(ConfigError, match=message) as error:
        train_run(config, overrides, config.parent)
    assert "\n" not in str(error.value)
