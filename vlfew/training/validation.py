"""Validation during training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast

from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.context import EvaluationContext
from vlfew.models.dual_stream import DualStream
from vlfew.training.callbacks import Callback, Evaluation
from vlfew.training.data_statistics import fit_training_means

if TYPE_CHECKING:
    from vlfew.training.trainer import Trainer


@dataclass(frozen=True)
class ModelSelection:
    """How the best weights of a training are chosen: an evaluation protocol on the validation split.

    Attributes:
        protocol: its name.
        options: all of its options.
    """

    protocol: str
    options: dict[str, Any] = field(default_factory=dict)


class Validation(Callback):
    """Evaluates on the validation split, on the main process, and reports to all callbacks by `on_evaluate`.

    Args:
        model: the model that is trained.
        data: with a split `val`.
        selection: protocol and options.
    """

    def __init__(self, model: DualStream, data: LabeledImages, selection: ModelSelection) -> None:
        self.model, self.data, self.selection = model, data, selection

    def on_step_end(self, trainer: Trainer) -> None:
        if not trainer.should_evaluate:
            return
        accuracy = torch.zeros(1, device=trainer.accelerator.device)
        protocol, options = self.selection.protocol, self.selection.options
        if trainer.accelerator.is_main_process:
            fit_training_means(self.model, self.data)
            context = EvaluationContext(self.model, self.data)
            accuracy[0] = PROTOCOLS.get(protocol)(context, **options).accuracy
        value, state = broadcast(accuracy).item(), trainer.state
        improved = value > state.best_accuracy
        if improved:
            state.best_accuracy, state.best_step = value, state.step
        trainer.call_event("on_evaluate", Evaluation(protocol, options["split"], value, improved))
        trainer.module.train()
