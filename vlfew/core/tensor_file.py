"""Tensors in safetensors files, with a checksum and the data that they belong to."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlfew.core.console import log_not_cached
from vlfew.core.errors import DataError, WriteError
from vlfew.core.files import write_tensors

T = TypeVar("T")
_log = logging.getLogger(__name__)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a file, which appears complete or not at all."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_tensors(path, contiguous, {**metadata, "crc32": _checksum(contiguous)})


def load_tensors(
    path: Path, content: str, fingerprint: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file.

    Args:
        path: of the file.
        content: what it holds, for messages.
        fingerprint: of the data that it must belong to; None for any.

    Raises:
        DataError: missing, damaged, or drawn from other data.
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
    drawn_from = metadata.get("fingerprint")
    if fingerprint not in (None, drawn_from):
        raise DataError(f"the {content} in {path} were drawn from {drawn_from}, not from {fingerprint}")
    return tensors, metadata


def load_or_make(
    path: Path, content: str, load: Callable[[], T], make: Callable[[], T], save: Callable[[T], None]
) -> T:
    """What a cache file holds, otherwise what `make` gives, which is then saved in it.

    A damaged file is replaced; a cache that cannot be written is noted once, and nothing is saved.

    Args:
        path: of the file.
        content: what it holds, for the notes.
        load: reads the file; DataError where it cannot.
        make: gives the same without the file.
        save: writes the file.
    """
    try:
        return load()
    except DataError as error:
        if path.exists():
            _log.info("%s are encoded again: %s", content, error)
    made = make()
    try:
        save(made)
    except WriteError as error:
        log_not_cached(f"{content} are not cached", error)
    return made


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for _, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
    return str(checksum)
