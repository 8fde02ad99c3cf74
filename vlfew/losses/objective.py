"""The objective: a weighted sum of named terms, each over its share of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.errors import ConfigError
from vlfew.losses import LOSSES
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch


@dataclass(frozen=True)
class TermSpec:
    """A term as it is configured.

    Attributes:
        name: of the loss.
        weight: in the sum.
        options: of the loss.
        start, stop: the share of the training, 0 to 1, from and up to which it counts.
    """

    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    start: float = 0.0
    stop: float = 1.0

    @property
    def kind(self) -> type[Loss]:
        kind = LOSSES.get(self.name)
        assert isinstance(kind, type) and issubclass(kind, Loss)
        return kind


@dataclass(frozen=True)
class Chosen:
    """The terms that can be trained.

    Attributes:
        kept: those.
        dropped: names of the terms that were left out for want of words.
        fell_back: whether the fallback is in use.
    """

    kept: tuple[TermSpec, ...]
    dropped: tuple[str, ...] = ()
    fell_back: bool = False

    @property
    def needs_text(self) -> bool:
        return any(term.kind.needs_text for term in self.kept)


def losses_with(attribute: str) -> list[str]:
    """Names of the losses whose `attribute` (of `Loss`) is true."""
    return [name for name in LOSSES.names() if getattr(TermSpec(name).kind, attribute)]


def choose_terms(terms: Sequence[TermSpec], words: bool, fallback_loss: TermSpec | None = None) -> Chosen:
    """Leaves out the terms that need words where classes have none.

    Args:
        terms: as configured.
        words: whether classes have words.
        fallback_loss: the loss over images that takes over when nothing else is left.

    Raises:
        ConfigError: nothing is left, or nothing for some part of the training.
    """
    kept = tuple(term for term in terms if words or not term.kind.needs_text)
    dropped = tuple(term.name for term in terms if term not in kept)
    fell_back = not kept
    if fell_back:
        if fallback_loss is None:
            raise ConfigError("every term of the objective needs words, and there is no fallback")
        if fallback_loss.kind.needs_text:
            raise ConfigError(
                f"fallback {fallback_loss.name!r} needs words itself; choose a loss over images"
            )
        kept = (fallback_loss,)
    reached = 0.0
    for term in sorted(kept, key=lambda t: t.start):
        if term.start > reached:
            break
        reached = max(reached, term.stop)
    if reached < 1:
        without = (
            f"without {', '.join(dropped)}, for which classes have no words here (their names are codes, or "
        )
        why = f" {without}text.encoder is null)" if dropped else ""
        raise ConfigError(
            f"no term of the objective counts at {reached:.0%} of the training{why}; let one start or stop there"
        )
    return Chosen(kept, dropped, fell_back)


class Objective(nn.Module):
    """Weighted sum of terms; a term used twice gets a number ("contrastive#2").

    Args:
        chosen: the terms.
        trained: for those that learn something of each class.

    Raises:
        ConfigError: options out of range, with one line for each term that has some.
    """

    def __init__(self, chosen: Chosen, trained: LossContext) -> None:
        super().__init__()
        self.chosen = chosen
        self.specs: dict[str, TermSpec] = {}
        self.terms = nn.ModuleDict()
        problems: list[str] = []
        for spec in chosen.kept:
            times = sum(used.name == spec.name for used in self.specs.values())
            unique = f"{spec.name}#{times + 1}" if times else spec.name
            needed = (trained,) if spec.kind.needs_classes else ()
            try:
                self.specs[unique], self.terms[unique] = spec, spec.kind(*needed, **spec.options)
            except ConfigError as error:
                problems += [f"loss {unique}: {problem}" for problem in error.problems]
        if problems:
            raise ConfigError(problems)

    @property
    def needs_map(self) -> bool:
        return any(bool(term.needs_map) for term in self.terms.values())

    @property
    def needs_classes(self) -> bool:
        return any(bool(term.needs_classes) for term in self.terms.values())

    @property
    def leaves_out(self) -> bool:
        """Whether some trained weights may go without a gradient at some step."""
        staged = any((spec.start, spec.stop) != (0, 1) for spec in self.specs.values())
        return staged or not all(bool(term.needs_embedding) for term in self.terms.values())

    @property
    def last_start(self) -> float:
        """The share of the training after which no further term begins."""
        return max(spec.start for spec in self.specs.values())

    def forward(self, batch: EncodedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and the value of each term that counts by now, float32 scalars."""
        total = batch.image.embedding.new_zeros(())
        values: dict[str, Tensor] = {}
        # Similarities at a temperature of 0.05 lose their digits in half precision.
        with torch.autocast(batch.labels.device.type, enabled=False):
            for name, term in self.terms.items():
                spec = self.specs[name]
                if spec.start <= batch.progress < spec.stop:
                    own = (batch.progress - spec.start) / (spec.stop - spec.start)
                    values[name] = term(replace(batch, progress=own))
                    total = total + spec.weight * values[name]
        return total, {name: value.detach() for name, value in values.items()}
