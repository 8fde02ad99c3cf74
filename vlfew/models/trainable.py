"""What of a tower is trained: all of it, nothing, its last blocks, or LoRA beside its layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlfew.core.config import Lora
from vlfew.encoders.lora import add_lora
from vlfew.encoders.unfreeze import unlock


def set_trainable_parts(
    tower: nn.Module, frozen: bool, unfreeze_last: int, lora: Lora | None, shown: Any, section: str
) -> list[nn.Module]:
    """Sets what is trained of a backbone or a text encoder; gives the trained parts of one that is frozen but for them.

    Args:
        tower: to `Features`, from what it is `shown`.
        frozen: whether it is, but for what the next two say.
        unfreeze_last: how many of its last blocks are trained.
        lora: beside which layers, if any.
        shown: an input, by which its blocks are found.
        section: of the configuration, for messages.

    Raises:
        ModelError: it has fewer blocks, or no layer matches.
    """
    tower.requires_grad_(not frozen)
    if lora is not None:
        return add_lora(tower, lora, f"{section}.lora")
    if not unfreeze_last:
        return []

    def embed() -> Tensor:
        embedding: Tensor = tower(shown).embedding
        return embedding

    training = tower.training
    parts = unlock(tower.eval(), unfreeze_last, embed, f"{section}.unfreeze_last")
    tower.train(training)
    return parts
