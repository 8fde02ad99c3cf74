"""What identities are compared by: their images and texts, combined by the gallery's rule."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Combine = Literal["mean", "max"]
"""How several images of an identity become one score: by the mean of their normalized embeddings, which is one
template, or by the image that is most similar."""
Support = Literal["image", "text", "both"]
"""What an identity is made of; scores of different kinds differ in scale."""


def make_templates(
    embedding: Tensor, identity: Tensor, is_text: Tensor, count: int, combine: Combine, text_weight: float
) -> tuple[Tensor, Tensor, list[Support]]:
    """Templates of N identities, whose cosines are their scores.

    `mean`: one for each identity, the normalized mean of its images. `max`: one for each image, so that the score is
    that of the most similar image. Where there are texts, each is `normalize((1 - w) * images + w * texts)`, both
    normalized, as `MultimodalPrototypes` mixes them; an identity of texts alone has their normalized mean.

    Args:
        embedding: `[S, D]` of unit length.
        identity: of each item, 0 to N-1, `[S]`.
        is_text: `[S]` bool.
        count: N; each has an item.
        combine: rule for several images.
        text_weight: w, 0 to 1.

    Returns:
        Templates `[T, D]`, the identity of each `[T]`, and what each identity is made of `[N]`.
    """
    if not is_text.any():
        if combine == "max":
            return embedding, identity, ["image"] * count
        return _normalized_means(embedding, identity, count), torch.arange(count), ["image"] * count
    texts = _normalized_means(embedding[is_text], identity[is_text], count)
    images, owner = embedding[~is_text], identity[~is_text]
    has_image, has_text = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
    has_image[owner], has_text[identity[is_text]] = True, True
    if combine == "mean":
        images, owner = _normalized_means(images, owner, count)[has_image], has_image.nonzero().flatten()
    weight = torch.where(has_text[owner], text_weight, 0.0)[:, None]
    mixed = normalize((1 - weight) * images + weight * texts[owner], dim=1)
    alone = (has_text & ~has_image).nonzero().flatten()
    names: dict[tuple[bool, bool], Support] = {
        (True, False): "image",
        (False, True): "text",
        (True, True): "both",
    }
    support = [names[pair] for pair in zip(has_image.tolist(), has_text.tolist(), strict=True)]
    return torch.cat([mixed, texts[alone]]), torch.cat([owner, alone]), support


def _normalized_means(vectors: Tensor, owner: Tensor, count: int) -> Tensor:
    """`[N, D]`; zeros where there is none."""
    if len(owner) == count and bool((owner == torch.arange(count)).all()):
        return vectors
    return normalize(vectors.new_zeros(count, vectors.shape[1]).index_add_(0, owner, vectors), dim=1)
