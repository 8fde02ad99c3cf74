"""The learned projection from the text encoder's space into the joint space."""

from __future__ import annotations

from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.models.spec import ProjectionKind


class TextProjection(nn.Module):
    """Maps text embeddings `[T, D_text]` into the joint space `[T, D]`.

    Args:
        kind: `none`, `linear`, or `mlp`: a linear map plus a network with one hidden layer.
        text_dim: D_text.
        dim: D.
        hidden: width of the hidden layer of `mlp`.
        dropout: probability, on the input and on the hidden layer.
        zero: whether the output is zero at first, as of a projection that is added to another map.

    Raises:
        ModelError: `none` between spaces of different width.
    """

    def __init__(
        self, kind: ProjectionKind, text_dim: int, dim: int, hidden: int, dropout: float, zero: bool = False
    ) -> None:
        super().__init__()
        if kind == "none" and text_dim != dim:
            raise ModelError(
                f"text.projection is 'none', but the text encoder has {text_dim} dimensions and the image "
                f"encoder {dim}; use 'linear' or 'mlp'"
            )
        self.linear = nn.Identity() if kind == "none" else nn.Linear(text_dim, dim)
        self.dropout = nn.Dropout(0.0 if kind == "none" else dropout)
        self.hidden = (
            nn.Sequential(nn.Linear(text_dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
            if kind == "mlp"
            else None
        )
        if zero:
            last = (self.linear, *(self.hidden or [None])[-1:])
            for layer in (part for part in last if isinstance(part, nn.Linear)):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, text: Tensor) -> Tensor:
        """`[T, D_text]` to `[T, D]`."""
        text = self.dropout(text)
        projected: Tensor = self.linear(text)
        return projected if self.hidden is None else projected + self.hidden(text)
