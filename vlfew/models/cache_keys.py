"""What the names of cache files depend on: weights, and how images were read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.data.file_hashes import hash_bytes, hash_images
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import LabeledImages


def hash_weights(*modules: nn.Module | None) -> str:
    """16 hex digits over names and values of all weights and buffers."""
    return digest(
        [
            (
                number,
                name,
                hash_bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data),
            )
            for number, module in enumerate(modules)
            if module is not None
            for name, tensor in module.state_dict().items()
        ]
    )


def hash_sample(data: LabeledImages, index: Tensor, most: int) -> list[int]:
    """Hashes of the pixels of up to `most` evenly spread images of `index [S]`.

    Hashes of images may be those of their files, which do not tell how they were read: size, colors and crop.
    """
    sampled = index[torch.linspace(0, len(index) - 1, min(most, len(index))).long()]
    return [int(value) for value in hash_images(data.images.batch(sampled))]
