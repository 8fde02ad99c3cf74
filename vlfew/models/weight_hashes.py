"""A hash of the weights of a module, for the names of cache files."""

from __future__ import annotations

import torch
from torch import nn

from vlfew.data.file_hashes import hash_bytes
from vlfew.data.image_files import digest


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
