"""Run by test_distributed.py, alone or under torchrun: saves the gradients of a step for each objective."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from train_and_list_threads import gloo_threads

from vlfew.encoders.image.conv4 import Conv4
from vlfew.encoders.text.base import TextEncoder
from vlfew.losses.base import LossContext
from vlfew.losses.objective import Objective, WeightedLoss, select_losses
from vlfew.models.dual_stream import DualStream
from vlfew.models.spec import ModelSpec, TextSpec
from vlfew.training.batches import BatchLabels
from vlfew.training.hardware import closing_process_group
from vlfew.training.training_step import TrainingStep

CLASSES, IMAGES, D_TEXT = 6, 4, 12


class NoEncoder(TextEncoder):
    """A frozen encoder whose vectors were computed before."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = D_TEXT


def save_gradients(accelerator: Accelerator, objective: str, output: Path) -> None:
    """The gradients of one step on a batch that all processes share."""
    torch.manual_seed(0)
    text_spec = TextSpec(encoder="none", projection="mlp", hidden=8, dropout=0.0)
    spec = ModelSpec(backbone="conv4", text=text_spec, embedding_dim=16, image_size=16)
    model = DualStream(spec, Conv4(1, 16, width=8, norm="group"), NoEncoder())
    losses = select_losses([WeightedLoss(name) for name in objective.split(",")], has_text=True)
    step = TrainingStep(
        model, Objective(losses, LossContext(model.feature_spec, CLASSES)), torch.arange(CLASSES)
    )
    pixels = torch.rand(CLASSES * IMAGES, 1, 16, 16) * 255
    text = torch.randn(CLASSES, D_TEXT)
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES)
    share = len(pixels) // accelerator.num_processes
    start = share * accelerator.process_index
    module = accelerator.prepare(step)
    batch_labels = BatchLabels(labels, labels, text_labels=torch.arange(CLASSES))
    loss, _ = module(pixels[start : start + share], batch_labels, text)
    accelerator.backward(loss)
    if accelerator.is_main_process:
        gradients = {n: p.grad.contiguous() for n, p in step.named_parameters() if p.grad is not None}
        save_file(gradients | {"loss": loss.detach()}, output)


def main(folder: str, *objectives: str) -> None:
    with closing_process_group():
        accelerator = Accelerator(cpu=True)
        for objective in objectives:
            save_gradients(accelerator, objective, Path(folder) / objective)
        accelerator.wait_for_everyone()
        del accelerator
    assert not gloo_threads()


main(*sys.argv[1:])
