"""File writing that is atomic: a file appears complete or not at all."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlfew.core.errors import VlfewError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it is synced and moved into place when the block succeeds.

    Raises:
        VlfewError: `path` is a folder.
    """
    if path.is_dir():
        raise VlfewError(f"{path} is a folder, not a file; name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers create files that only their owner may read
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` through `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def file_stem(name: str) -> str:
    """A valid file name made from one with slashes or colons: `hf:/x/pets` becomes `hf-x-pets`."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
