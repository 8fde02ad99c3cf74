"""The objective: a weighted sum of named terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.errors import ConfigError
from vlfew.losses import LOSSES
from vlfew.losses.encoded import Encoded


class Objective(nn.Module):
    """Weighted sum of terms; a term used twice gets a number ("contrastive#2").

    Args:
        terms: `(name, weight, options)` of each.
        words: whether classes have words. Without, terms that need them are dropped.
        fallback: the pair loss that takes over when nothing else is left.

    Attributes:
        dropped: names of the terms that were left out for want of words.
        fell_back: whether the fallback is in use.
    """

    def __init__(
        self,
        terms: Sequence[tuple[str, float, dict[str, Any]]],
        words: bool,
        fallback: tuple[str, float, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        made = [(name, weight, LOSSES.get(name)(**options)) for name, weight, options in terms]
        kept = [entry for entry in made if words or not entry[2].needs_words]
        self.dropped = [name for name, _, module in made if module.needs_words and not words]
        self.fell_back = not kept
        if not kept:
            if fallback is None:
                raise ConfigError("every term of the objective needs words, and there is no fallback")
            name, weight, options = fallback
            kept = [(name, weight, LOSSES.get(name)(**options))]
            if kept[0][2].needs_words:
                raise ConfigError(f"fallback {name!r} needs words itself; choose a loss over pictures")
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        for name, weight, module in kept:
            times = sum(used.partition("#")[0] == name for used in self.weights)
            unique = f"{name}#{times + 1}" if times else name
            self.weights[unique], self.terms[unique] = weight, module

    @property
    def needs_words(self) -> bool:
        return any(bool(term.needs_words) for term in self.terms.values())

    def forward(self, batch: Encoded) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and each term's own value, float32 scalars."""
        # Similarities at a temperature of 0.05 lose their digits in half precision.
        with torch.autocast(batch.labels.device.type, enabled=False):
            values = {name: term(batch) for name, term in self.terms.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}
