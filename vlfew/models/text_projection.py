"""From what a text encoder gives to the space of the images."""

from __future__ import annotations

from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.models.spec import ProjectionKind


class TextProjection(nn.Module):
    """From the text encoder's space `[T, D_text]` to that of the images `[T, D]`.

    `mlp` adds a hidden layer to a linear map, so that it starts out no worse than one.
    """

    def __init__(self, kind: ProjectionKind, width: int, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if kind == "none" and width != dim:
            raise ModelError(
                f"text.projection is 'none', but the text encoder gives {width} numbers and the "
                f"image stream {dim}; use 'linear' or 'mlp'"
            )
        self.linear = nn.Identity() if kind == "none" else nn.Linear(width, dim)
        self.dropout = nn.Dropout(0.0 if kind == "none" else dropout)
        self.hidden = (
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
            if kind == "mlp"
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        projected: Tensor = self.linear(x)
        return projected if self.hidden is None else projected + self.hidden(x)
