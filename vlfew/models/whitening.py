"""Embeddings in which images of one class differ alike in all directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Whitening(nn.Module):
    """Whitens embeddings within classes, by the scatter of the training images around the means of their classes.

    An embedding x becomes `normalize(D^(-1/2) V^T (g(x) - m))`, where g is `normalize(sign(x) |x|^power)`, which evens
    out the few large activations of a network that ends in a ReLU (Hu et al. 2021, Leveraging the Feature Distribution
    in Transfer-Based Few-Shot Learning, section 3.1), m is the mean of `g(x)`, and `V D V^T` is the covariance of
    `g(x)` within classes, every class counting the same (within-class covariance normalization, Hatch, Kajarekar and
    Stolcke 2006). It is shrunk toward a multiple of the identity twice: as Ledoit and Wolf (2004) estimate it, the more
    the fewer images there are, and by `shrinkage`, since new classes scatter in other directions than those known.

    A text is a direction, like the weights of a linear classifier, and takes the inverse of the transposed map,
    `normalize(D^(1/2) V^T t)`: its dot products with images stay what they were before these are normalized again.

    Args:
        dim: D, the width of the embedding.
        power: exponent of the absolute values; 1 leaves them as they are.
        shrinkage: share of the identity, 0 to 1; with 1, nothing is whitened.
    """

    def __init__(self, dim: int, power: float, shrinkage: float) -> None:
        super().__init__()
        self.power, self.shrinkage = power, shrinkage
        self.mean = nn.Buffer(torch.zeros(dim))
        self.basis = nn.Buffer(torch.eye(dim))
        self.scale = nn.Buffer(torch.ones(dim))
        self._fitted_on: tuple[Tensor, Tensor] | None = None

    def fit(self, embedding: Tensor, labels: Tensor) -> None:
        """Stores mean and covariance of the training images.

        Args:
            embedding: `[n, D]`.
            labels: `[n]`, their classes; one with a single image says nothing of the scatter.
        """
        from sklearn.covariance import ledoit_wolf

        embedding, labels = embedding.float().cpu(), labels.cpu()
        # A frozen backbone gives the same embeddings at every validation.
        if self._fitted_on is not None and all(map(torch.equal, self._fitted_on, (embedding, labels))):
            return
        self._fitted_on = embedding, labels
        x = self._power(embedding)
        self.mean.copy_(x.mean(0))
        number, count = labels.unique(return_inverse=True, return_counts=True)[1:]
        means = x.new_zeros(len(count), x.shape[1]).index_add_(0, number, x) / count[:, None]
        # Each class has the same weight, and its covariance is divided by one less than its images.
        weight = len(x) / (len(count) * (count - 1).clamp(min=1))
        scatter = (x - means[number]) * weight[number, None].sqrt()
        covariance = torch.from_numpy(ledoit_wolf(scatter.numpy(), assume_centered=True)[0]).float()
        average = covariance.diagonal().mean()
        if not average > 0:  # no class has two different images
            self.basis.copy_(torch.eye(len(self.mean)))
            self.scale.fill_(1)
            return
        values, basis = torch.linalg.eigh(covariance)
        shrunk = torch.lerp(values / average, torch.ones_like(values), self.shrinkage)
        self.basis.copy_(basis)
        self.scale.copy_(shrunk.clamp(min=1e-6).sqrt())

    def forward(self, embedding: Tensor) -> Tensor:
        """Image embeddings `[B, D]` to unit vectors `[B, D]`."""
        return normalize((self._power(embedding) - self.mean) @ self.basis / self.scale, dim=1)

    def project_text(self, text: Tensor) -> Tensor:
        """Text embeddings `[T, D]`, compared with centered images so far, to unit vectors `[T, D]`."""
        return normalize(text @ self.basis * self.scale, dim=1)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._fitted_on = None
        super()._load_from_state_dict(*args, **kwargs)

    def _power(self, x: Tensor) -> Tensor:
        # Zeros have no gradient, and that of their root is infinite.
        return normalize(x.sign() * x.abs().clamp(min=1e-8) ** self.power, dim=1)
