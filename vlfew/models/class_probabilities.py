"""Images and texts by the known classes that they are taken for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class ClassProbabilities(nn.Module):
    """Represents an image by the probabilities of the classes that its encoder was pretrained on.

    `normalize(sqrt(p) - m)`, where p are the probabilities of K classes and m is the mean of their square roots over
    the training images. The dot product of the square roots of two distributions is their Bhattacharyya coefficient
    (1943), 1 where they are the same and 0 where they share no class: two images are similar when they are taken for
    the same classes. A text is represented alike, by the shares that `ClassNeighbors` gives the classes.

    Args:
        num_classes: K.
        dim: D, of the embedding that the classifier takes.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.zeros(num_classes, dim))
        self.bias = nn.Buffer(torch.zeros(num_classes))
        self.mean = nn.Buffer(torch.zeros(num_classes))

    def set_classifier(self, layer: nn.Linear) -> None:
        """Stores the classifier that the encoder was pretrained with, from D to K."""
        device = self.mean.device
        self.weight, self.bias = (
            nn.Buffer(part.detach().float().to(device)) for part in (layer.weight, layer.bias)
        )
        self.mean = nn.Buffer(torch.zeros(layer.out_features, device=device))

    def fit(self, embedding: Tensor) -> None:
        """Stores the mean over training images, `embedding [n, D]`."""
        self.mean.copy_(self._probabilities(embedding).clamp(min=1e-12).sqrt().mean(0))

    def forward(self, embedding: Tensor) -> Tensor:
        """The backbone's embeddings `[B, D]` to unit vectors `[B, K]`."""
        return self.embed(self._probabilities(embedding))

    def embed(self, probabilities: Tensor) -> Tensor:
        """Distributions over the classes, `[B, K]`, to unit vectors `[B, K]`."""
        return normalize(probabilities.clamp(min=1e-12).sqrt() - self.mean, dim=1)

    def _probabilities(self, embedding: Tensor) -> Tensor:
        return nn.functional.linear(embedding, self.weight, self.bias).softmax(1)
