"""Words read by what the training classes with words like them look like."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class ClassNeighbors(nn.Module):
    """From a text encoder's vectors `[T, D_text]` to what such things look like, `[T, D]`.

    A text is compared with the words of the C training classes, and their mean images are averaged by how alike
    it is to each: `sum_c softmax_c(cos(t - m, t_c - m) / temperature) v_c`, m being the mean of all classes' words.
    It is ConSE (Norouzi et al. 2014) the other way round: there an image becomes a mixture of the words of
    training classes. Nothing is learned, so 64 classes do, where a projection between the spaces has too few of them.

    Args:
        classes: C.
        text_dim: D_text.
        dim: D.
        temperature: the lower, the fewer classes count.
    """

    def __init__(self, classes: int, text_dim: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.words: Tensor
        self.words_mean: Tensor
        self.images: Tensor
        self.register_buffer("words", torch.zeros(classes, text_dim))
        self.register_buffer("words_mean", torch.zeros(text_dim))
        self.register_buffer("images", torch.zeros(classes, dim))

    def remember(self, words: Tensor, images: Tensor) -> None:
        """Takes in the training classes: their words `[C, D_text]` and mean images `[C, D]`."""
        words = normalize(words, dim=1)
        self.words_mean.copy_(words.mean(0))
        self.words.copy_(normalize(words - words.mean(0), dim=1))
        self.images.copy_(normalize(images, dim=1))

    def forward(self, encoded: Tensor) -> Tensor:
        near = normalize(normalize(encoded.float(), dim=1) - self.words_mean, dim=1) @ self.words.T
        return (near / self.temperature).softmax(1) @ self.images
