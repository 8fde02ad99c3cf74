"""What pictures may go through before the backbone sees them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class FrontEnd(nn.Module):
    """A fixed map of pictures. Built by `FRONT_ENDS.get(name)(in_channels, image_size, **options)`.

    It stands after the normalisation of pixels, within the model: evaluation and use apply it too. It
    has buffers and no parameters. What it takes from pictures it takes once, before training.

    Attributes:
        out_channels: C' of what the backbone sees.
        out_size: its side in pixels.
        sample: at most so many pictures `fit` asks for; 0 where there is nothing to fit.
        rebuild: name and options that give the same buffers again, but for their values; those then
            come from a state dict.
    """

    out_channels: int
    out_size: int
    sample: int = 0
    rebuild: tuple[str, dict[str, Any]]

    def fit(self, pictures: Iterable[Tensor]) -> None:
        """Takes from training pictures what there is to take; nothing where `sample` is 0.

        Args:
            pictures: batches `[b, C, H, W]` of normalised pictures of the training split, and of no other.

        Raises:
            ModelError: too few pictures for what was asked.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures `[B, C, H, W]` to `[B, C', H', W']`, in their own precision."""
