"""The objective: a weighted sum of losses, each over its part of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.errors import ConfigError, VlfewError
from vlfew.losses import LOSSES
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


@dataclass(frozen=True)
class WeightedLoss:
    """A loss of the objective.

    Attributes:
        name: of the loss.
        weight: in the sum.
        options: of the loss.
        start, stop: the part of the training in which it is active, as shares from 0 to 1.
    """

    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    start: float = 0.0
    stop: float = 1.0

    @property
    def kind(self) -> type[Loss]:
        """Its class."""
        kind = LOSSES.get(self.name)
        assert isinstance(kind, type) and issubclass(kind, Loss)
        return kind


@dataclass(frozen=True)
class SelectedLosses:
    """The losses that can be trained.

    Attributes:
        losses: those.
        dropped: names of the losses that need text where there is none.
        used_fallback: whether the fallback loss replaces them all.
    """

    losses: tuple[WeightedLoss, ...]
    dropped: tuple[str, ...] = ()
    used_fallback: bool = False

    @property
    def needs_text(self) -> bool:
        """Whether a loss needs text."""
        return any(loss.kind.needs_text for loss in self.losses)


def losses_with(attribute: str) -> list[str]:
    """Names of the losses whose `attribute` (see `Loss`) is true."""
    return [name for name in LOSSES.names() if getattr(WeightedLoss(name).kind, attribute)]


def select_losses(
    losses: Sequence[WeightedLoss], has_text: bool, fallback: WeightedLoss | None = None
) -> SelectedLosses:
    """Drops the losses that need text where classes have none.

    Args:
        losses: as configured.
        has_text: whether classes have texts.
        fallback: a loss over images that is used when no other is left.

    Raises:
        ConfigError: no loss is left, or none for a part of the training.
    """
    selected = tuple(loss for loss in losses if has_text or not loss.kind.needs_text)
    dropped = tuple(loss.name for loss in losses if loss not in selected)
    used_fallback = not selected
    if used_fallback:
        if fallback is None:
            raise ConfigError("every loss of the objective needs text, and there is no fallback_loss")
        if fallback.kind.needs_text:
            raise ConfigError(f"fallback_loss {fallback.name!r} needs text itself; choose a loss over images")
        selected = (fallback,)
    covered = 0.0
    for loss in sorted(selected, key=lambda loss: loss.start):
        if loss.start > covered:
            break
        covered = max(covered, loss.stop)
    if covered < 1:
        why = (
            f" without {', '.join(dropped)}, for which classes have no text here (their names are codes, or "
            "text.encoder is null)"
        )
        raise ConfigError(
            f"no loss of the objective is active at {covered:.0%} of the training{why if dropped else ''}; "
            "let one start or stop there"
        )
    return SelectedLosses(selected, dropped, used_fallback)


class Objective(nn.Module):
    """Weighted sum of losses; a loss used twice gets a number (`contrastive#2`).

    Args:
        selected: the losses.
        context: for losses with weights for each class.

    Raises:
        ConfigError: options out of range, one line for each loss.
    """

    def __init__(self, selected: SelectedLosses, context: LossContext) -> None:
        super().__init__()
        self.specs: dict[str, WeightedLoss] = {}
        self.terms = nn.ModuleDict()
        problems: list[str] = []
        for loss in selected.losses:
            uses = sum(other.name == loss.name for other in self.specs.values())
            name = f"{loss.name}#{uses + 1}" if uses else loss.name
            arguments = (context,) if loss.kind.needs_classes else ()
            try:
                self.specs[name], self.terms[name] = loss, loss.kind(*arguments, **loss.options)
            except ConfigError as error:
                problems += [f"loss {name}: {problem}" for problem in error.problems]
        if problems:
            raise ConfigError(problems)

    @property
    def needs_map(self) -> bool:
        """Whether a loss uses feature maps."""
        return any(loss.kind.needs_map for loss in self.specs.values())

    @property
    def needs_classes(self) -> bool:
        """Whether a loss has weights for each training class."""
        return any(loss.kind.needs_classes for loss in self.specs.values())

    @property
    def may_skip_parameters(self) -> bool:
        """Whether some trained parameters may have no gradient at some step."""
        staged = any((loss.start, loss.stop) != (0, 1) for loss in self.specs.values())
        return staged or not all(loss.kind.needs_embedding for loss in self.specs.values())

    @property
    def last_start(self) -> float:
        """The share of the training after which no further loss starts."""
        return max(loss.start for loss in self.specs.values())

    def forward(self, batch: EncodedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and the value of each active loss; float32 scalars."""
        total = batch.image.embedding.new_zeros(())
        values: dict[str, Tensor] = {}
        # Similarities at a temperature of 0.05 lose their digits in half precision.
        with torch.autocast(batch.labels.device.type, enabled=False):
            for name, term in self.terms.items():
                loss = self.specs[name]
                if loss.start <= batch.progress < loss.stop:
                    progress = (batch.progress - loss.start) / (loss.stop - loss.start)
                    value = term(replace(batch, progress=progress))
                    if not isinstance(value, Tensor) or value.ndim:
                        got = (
                            f"a tensor of shape {list(value.shape)}"
                            if isinstance(value, Tensor)
                            else repr(value)
                        )
                        raise VlfewError(f"loss {name!r} must return a scalar tensor, got {got:.60}")
                    values[name] = value
                    total = total + loss.weight * values[name]
        return total, {name: value.detach() for name, value in values.items()}
