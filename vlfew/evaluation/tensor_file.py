"""Tensors in safetensors files, with a checksum and the data that they belong to."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.files import atomic_file


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a file, which appears complete or not at all."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(contiguous, temporary, {**metadata, "crc32": _checksum(contiguous)})


def load_tensors(path: Path, content: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file.

    Args:
        path: of the file.
        content: what it holds, for messages.

    Raises:
        DataError: missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read {content} from {path}: {error}") from error
    # Files of episodes and pairs of earlier versions have none.
    if metadata.get("crc32") not in (None, _checksum(tensors)):
        raise DataError(f"{path} is damaged: the checksum of its {content} differs")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for _, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
    return str(checksum)
