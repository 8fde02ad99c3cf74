"""Training by LoRA: resumed to the bit, and saved without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import make_data
from vlfew.core.config import Config
from vlfew.models import load
from vlfew.training.callbacks import Callback, Evaluation
from vlfew.training.run_folder import RunFolder
from vlfew.training.trainer import Trainer
from vlfew.workflows.assemble import assemble
from vlfew.workflows.train import fit, make_trainer


class Killed(Exception):
    pass


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "data": {"image_size": 16},
            "image": {"backbone": "conv4", "width": 8, "frozen": True}
            | {"lora": {"rank": 2, "dropout": 0.5, "layers": "*.[23].*"}},
            "text": {"encoder": None},
            "embedding_dim": 8,
            "objective": [{"loss": "supervised_contrastive"}],
            "sampling": {"classes_per_batch": 4, "images_per_class": 3},
            "optim": {"steps": 6, "warmup_steps": 0, "lr": 0.05},
            "training": {"mixed_precision": "no", "save_every": 3, "eval_every": 2},
            "model_selection": {
                "protocol": "few-shot",
                "split": "val",
                "ways": 2,
                "queries": 2,
                "episodes": 10,
            },
        }
    )

    class Kill(Callback):
        def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
            if trainer.state.step == 4:
                raise Killed

    run = RunFolder(tmp_path / "probe")
    step = make_trainer(config, assemble(config, run, make_data()), run).training_step
    initial = {n: p.clone() for n, p in step.named_parameters()}
    trained = fit(config, RunFolder(tmp_path / "straight"), make_data()).training_step
    learned = [n for n, p in trained.named_parameters() if not torch.equal(p, initial[n])]
    assert learned and all("lora_" in n or "image_projection" in n or "objective" in n for n in learned)
    with pytest.raises(Killed):
        fit(config, RunFolder(tmp_path / "killed"), make_data(), [Kill()])
    fit(config, RunFolder(tmp_path / "killed"), make_data())
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    assert one.keys() == other.keys() and not any("lora" in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert load(tmp_path / "straight").spec.backbone_lora is None
