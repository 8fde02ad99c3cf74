"""What the losses get of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlfew.losses.base import LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.objective import Objective, WeightedLoss, select_losses
from vlfew.models.dual_stream import DualStream
from vlfew.models.spec import ModelSpec
from vlfew.training.batches import BatchLabels
from vlfew.training.training_step import TrainingStep


@pytest.mark.parametrize(("name", "target"), [("contrastive", None), ("cross_entropy", [0, 0, 1, 1])])
def test_classes_are_numbered_where_a_loss_needs_them(
    name: str, target: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DualStream.from_spec(
        ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    )
    objective = Objective(
        select_losses([WeightedLoss(name)], has_text=False), LossContext(model.feature_spec, 2)
    )
    step, seen, forward = TrainingStep(model, objective, torch.tensor([3, 7])), [], Objective.forward

    def watched(self: Objective, batch: EncodedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(batch)
        return forward(self, batch)

    monkeypatch.setattr(Objective, "forward", watched)
    labels = torch.tensor([3, 3, 7, 7])
    step(torch.rand(4, 1, 16, 16) * 255, BatchLabels(labels, labels))
    (batch,) = seen
    assert (None if batch.target is None else batch.target.tolist()) == target
