"""Texts represented by the images of the training classes whose texts are most similar."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class ClassNeighbors(nn.Module):
    """Maps a text embedding to a mixture of the mean image embeddings of the training classes.

    The weights are a softmax over centered text similarities, `sum_c softmax_c(cos(t - m, t_c - m) / temperature) v_c`,
    where `t_c` and `v_c` are the text and the mean image embedding of class c, and m is the mean of all `t_c`. This is
    ConSE (Norouzi et al. 2014) in the opposite direction: there, an image becomes a mixture of class texts. Nothing is
    learned, so 64 training classes are enough, where a learned projection has too few of them.

    Args:
        num_classes: C, the number of training classes.
        text_dim: D_text.
        dim: D.
        temperature: of the softmax; the lower, the fewer classes contribute.
    """

    def __init__(self, num_classes: int, text_dim: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.texts = nn.Buffer(torch.zeros(num_classes, text_dim))
        self.text_mean = nn.Buffer(torch.zeros(text_dim))
        self.images = nn.Buffer(torch.zeros(num_classes, dim))

    def fit(self, texts: Tensor, images: Tensor) -> None:
        """Stores the training classes.

        Args:
            texts: mean text embedding of each class, `[C, D_text]`.
            images: mean image embedding of each class, `[C, D]`.
        """
        texts = normalize(texts, dim=1)
        self.text_mean.copy_(texts.mean(0))
        self.texts.copy_(normalize(texts - texts.mean(0), dim=1))
        self.images.copy_(normalize(images, dim=1))

    def forward(self, encoded: Tensor) -> Tensor:
        """Text embeddings `[T, D_text]` to `[T, D]`."""
        cosines = normalize(normalize(encoded.float(), dim=1) - self.text_mean, dim=1) @ self.texts.T
        return (cosines / self.temperature).softmax(1) @ self.images
