"""Every training option, for a few steps of the real loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.encoders.conftest import TEXT
from vlfew.workflows.train import train as train_run

FEW = [
    "optim.steps=4",
    "optim.warmup_steps=1",
    "training.eval_every=2",
    "training.save_every=2",
    "training.log_every=1",
]


def train(config: Path, *overrides: str) -> tuple[Path, list[float]]:
    """The run folder and the losses of its steps."""
    run = train_run(config, [*FEW, *overrides], config.parent)
    return run.path, [entry["loss"] for entry in run.read_log() if "loss" in entry]


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.gradient_accumulation_steps=3"],
        ["training.mixed_precision=bf16"],
        ["optim.max_grad_norm=null"],
        ["image.norm=batch", "image.dropout=0.5"],
        ["embedding_dim=null"],
        ["similarity=euclidean", "objective=[{loss: prototypical}]"],
        ["image={backbone: resnet12, widths: [4, 4, 8, 8], drop_rate: 0.1}"],
        ["image={backbone: lenet, activation: tanh, last_activation: sigmoid, dropout: 0.2, init: xavier}"],
        [
            "sampling.distinct_sources=false",
            "augment={hflip: 0.5, random_erasing: 0.5, contrast: 0.2, brightness: 0.2}",
        ],
    ],
    ids=lambda overrides: overrides[0][:40],
)
def test_option_trains_and_evaluates(config, overrides):
    path, losses = train(config, *overrides)
    assert len(losses) == 4 and all(torch.tensor(losses).isfinite())
    (result,) = json.loads((path / "results.json").read_text())
    assert 0 <= result["accuracy"] <= 1


def test_accumulated_batches_are_consecutive_batches(config):
    """With two batches per step, step n uses batches 2n and 2n+1; its loss is the mean of theirs."""
    frozen = ["optim.lr=1e-12", "augment={}"]
    _, single = train(config, *frozen, "name=single")
    _, double = train(
        config, *frozen, "name=double", "training.gradient_accumulation_steps=2", "optim.steps=2"
    )
    assert double == pytest.approx([sum(single[:2]) / 2, sum(single[2:]) / 2], rel=1e-4)


def test_an_unfrozen_text_encoder_is_trained(config, bert_folder, images):
    (images / "classes.yaml").write_text(
        "".join(
            f"{p.name}: {TEXT[int(p.name[-2:])]} green {thing}\n"
            for s, thing in (("train", "cat"), ("val", "dog"), ("test", "mug"))
            for p in sorted((images / s).iterdir())
        )
    )
    try:
        path, _ = train(
            config,
            f"text={{encoder: 'hf:{bert_folder}', frozen: false, projection: linear}}",
            "objective=[{loss: alignment_softmax}, {loss: alignment_sigmoid}]",
            "sampling.extra_text_negatives=2",
            "evaluate=[{protocol: zero-shot}]",
        )
    finally:
        (images / "classes.yaml").unlink()
    before = load_file(bert_folder / "model.safetensors")
    after = load_file(path / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    trained = next(v for k, v in after.items() if k.endswith(name))
    assert not torch.equal(trained, next(v for k, v in before.items() if k.endswith(name)))
    (result,) = json.loads((path / "results.json").read_text())
    assert result["protocol"] == "zero-shot" and result["ways"] == 4


@pytest.mark.slow
def test_compiled_backbone_trains(config):
    _, losses = train(config, "training.compile=true")
    assert all(torch.tensor(losses).isfinite())
