"""Training on a GPU: no waiting between log steps, images in GPU memory, fused optimizer, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import make_data
from tests.training.test_batches import decoded_on_demand
from vlfew.core.config import Config
from vlfew.data.labeled_images import LabeledImages
from vlfew.losses import LOSSES
from vlfew.training.callbacks import Callback, Evaluation
from vlfew.training.run_folder import RunFolder
from vlfew.training.trainer import Trainer
from vlfew.workflows.assemble import assemble
from vlfew.workflows.train import fit, make_trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CAN = {
    "image": {"backbone": "conv4", "widths": [8, 8]},
    "embedding_dim": None,
    "similarity": "cross_attention",
}
SPECIAL: dict[str, dict[str, Any]] = {
    "cross_attention": CAN | {"objective": [{"loss": "cross_attention", "ways": 2}]},
    "cross_attention_classes": CAN | {"objective": [{"loss": "cross_attention_classes", "ways": 2}]},
    "adaptive_cross_entropy": {"image": {"backbone": "conv4", "widths": [8, 8]}, "embedding_dim": None},
    "map_cross_entropy": {"embedding_dim": None},
}
TRIPLETS = [{"loss": "triplet", "mining": mining} for mining in ("all", "batch_hard", "semi_hard")]


def configured(changes: dict[str, Any]) -> Config:
    base: dict[str, Any] = {
        "data": {"image_size": 16},
        "image": {"backbone": "conv4", "width": 8},
        "text": {"encoder": None},
        "embedding_dim": 8,
        "sampling": {"classes_per_batch": 4, "images_per_class": 3},
        "augment": {
            "rotate": 20,
            "shear": 5,
            "elastic": 0.05,
            "hflip": 0.5,
            "contrast": 0.2,
            "random_erasing": 0.5,
        },
        "optim": {"steps": 12, "warmup_steps": 2},
        "training": {"mixed_precision": "bf16", "log_every": 6, "eval_every": 6, "save_every": 6},
    }
    return Config.model_validate(base | changes)


def trainer_of(folder: Path, changes: dict[str, Any], data: LabeledImages | None = None) -> Trainer:
    config, run = configured(changes), RunFolder(folder)
    return make_trainer(config, assemble(config, run, data or make_data()), run)


LOSSES_ALONE = [name for name in LOSSES.names() if not name.startswith("alignment")]


@pytest.mark.parametrize(
    "changes",
    [{"objective": [{"loss": name}]} | SPECIAL.get(name, {}) for name in LOSSES_ALONE if name != "triplet"]
    + [{"objective": [loss]} for loss in TRIPLETS]
    + [
        {"objective": [{"loss": "contrastive"}], "sampling": {"pairs_per_batch": 8}},
        {
            "objective": [{"loss": "contrastive"}],
            "optim": {"name": "rmsprop", "steps": 12, "warmup_steps": 2},
        },
        {"objective": [{"loss": "focal"}], "similarity": "weighted_l1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("on_demand", [False, True])
def test_the_host_does_not_wait_between_log_steps(
    changes: dict[str, Any], on_demand: bool, tmp_path: Path
) -> None:
    data = decoded_on_demand(make_data()) if on_demand else make_data()
    trainer = trainer_of(tmp_path, changes, data)
    trainer.module.train()
    batches = trainer.batches()
    trainer.optimizer_step(batches)  # libraries initialize themselves
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            trainer.optimizer_step(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not trainer.should_log and trainer.loss.isfinite()


def test_images_that_fit_live_in_gpu_memory(tmp_path: Path) -> None:
    data = make_data()
    trainer = trainer_of(tmp_path, {"objective": [{"loss": "contrastive"}]}, data)
    assert trainer.loader.resident is not None and trainer.loader.resident.is_cuda
    for batch in trainer.loader.batches(0, 3):
        expected = data.images.batch(trainer.loader.dataset.sampler.batch(batch.number).index)
        assert batch.images.is_cuda and torch.equal(batch.images.cpu(), expected)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_the_optimizer_is_fused(name: str, tmp_path: Path) -> None:
    changes = {"objective": [{"loss": "contrastive"}], "optim": {"name": name, "steps": 4, "warmup_steps": 1}}
    optimizer = trainer_of(tmp_path, changes).optimizer
    assert all(group["fused"] for group in optimizer.param_groups)


class Killed(Exception):
    pass


class Kill(Callback):
    def on_evaluate(self, trainer: Trainer, evaluation: Evaluation) -> None:
        if trainer.state.step == 12:
            raise Killed


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_resumed_run_ends_with_the_same_weights(precision: str, tmp_path: Path) -> None:
    changes = {
        "objective": [{"loss": "contrastive"}],
        "training": {"mixed_precision": precision, "log_every": 6, "eval_every": 6, "save_every": 6},
    }
    config = configured(changes)
    deterministic = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        fit(config, RunFolder(tmp_path / "straight"), make_data())
        with pytest.raises(Killed):
            fit(config, RunFolder(tmp_path / "killed"), make_data(), [Kill()])
        fit(config, RunFolder(tmp_path / "killed"), make_data())
    finally:
        torch.backends.cudnn.deterministic = deterministic
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
