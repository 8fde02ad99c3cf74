"""Reads the parameters of networks that dlib has saved, without dlib.

A file holds the layers in the order in which they compute. Each has its name, then its parameters as a tensor: a
version, four sizes, and the values as little-endian float32. Integers are a byte that says how many bytes follow (and
has the highest bit set for negative ones), and these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import ModelError

_LAYERS = re.compile(rb"\x05con_4|\x07affine_|\x04fc_2")
"""The names of layers that have parameters, each after its length: convolution, scale and shift, fully connected."""
_TENSOR_VERSION = 2


class LayerParameters(NamedTuple):
    """The kind of a layer (`con`, `affine` or `fc`) and its parameters `[P]`."""

    kind: str
    values: Tensor


def read_layers(path: Path) -> Iterator[LayerParameters]:
    """The layers of a network, first to last.

    Raises:
        ModelError: the file is not of this form.
    """
    content = path.read_bytes()
    try:
        for match in _LAYERS.finditer(content):
            kind, at = match.group()[1:].decode().split("_")[0], match.end()
            if kind == "fc":  # its numbers of outputs and inputs
                for _ in range(2):
                    _, at = _integer(content, at)
            version, at = _integer(content, at)
            sizes = []
            for _ in range(4):
                size, at = _integer(content, at)
                sizes.append(size)
            if version != _TENSOR_VERSION:
                raise ValueError(f"tensors of version {version}")
            values = np.frombuffer(content, "<f4", math.prod(sizes), at)
            yield LayerParameters(kind, torch.from_numpy(values.astype(np.float32)))
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path}: no network as dlib saves them: {error}") from None


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """An integer, and the place behind it."""
    size, end = content[at] & 0x0F, at + 1 + (content[at] & 0x0F)
    value = int.from_bytes(content[at + 1 : end], "little")
    if not 1 <= size <= 8 or len(content) < end:
        raise ValueError(f"no integer at byte {at}")
    return -value if content[at] & 0x80 else value, end
