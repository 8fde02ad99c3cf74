"""Texts represented by the images of those known classes whose texts are most similar."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class ClassNeighbors(nn.Module):
    """Maps a text embedding to a mixture of the image embeddings of known classes.

    The weights are a softmax over centered text similarities, `sum_c softmax_c(cos(t - m, t_c - m) / temperature) v_c`,
    where `t_c` and `v_c` are the text and the image embedding of class c, and m is the mean of all `t_c`. Known are the
    training classes, by their mean embeddings, or the classes of the image encoder's pretraining, by the weights of
    its classifier. This is ConSE (Norouzi et al. 2014) in the opposite direction: there, an image becomes a mixture of
    class texts. Nothing is learned, so 64 training classes are enough, where a learned projection has too few of them.

    Args:
        num_classes: C, the number of classes, as far as it is known before `fit`.
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
        """Stores the classes.

        Args:
            texts: mean text embedding of each class, `[C, D_text]`.
            images: image embedding of each class, `[C, D]`.
        """
        texts, device = normalize(texts, dim=1), self.texts.device
        self.text_mean.copy_(texts.mean(0))
        self.texts = nn.Buffer(normalize(texts - texts.mean(0), dim=1).to(device))
        self.images = nn.Buffer(normalize(images, dim=1).to(device))

    def forward(self, encoded: Tensor) -> Tensor:
        """Text embeddings `[T, D_text]` to `[T, D]`."""
        return self.shares(encoded) @ self.images

    def shares(self, encoded: Tensor) -> Tensor:
        """Text embeddings `[T, D_text]` to the weights of the classes, `[T, C]`, which sum to 1."""
        cosines = normalize(normalize(encoded.float(), dim=1) - self.text_mean, dim=1) @ self.texts.T
        return (cosines / self.temperature).softmax(1)
