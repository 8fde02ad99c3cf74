"""File writing that is atomic: a file appears complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.core.errors import VlfewError, WriteError

if TYPE_CHECKING:
    from torch import Tensor

NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not become that large (ulimit -f)",
}
"""Why there is no space for a file."""
_RUST = re.compile(r"os error (\d+)")
"""In messages of safetensors, whose errors are no OSErrors."""


@contextmanager
def atomic_file(path: Path, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it is synced and moved into place when the block succeeds.

    Args:
        path: the file.
        size: bytes that will be written, for the message where there is no space; None if unknown.

    Raises:
        VlfewError: `path` is a folder.
        WriteError: it cannot be written; the file that was there is kept.
    """
    if path.is_dir():
        raise VlfewError(f"{path} is a folder, not a file; name a file in it")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with write_errors(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # some writers create files that only their owner may read
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # nothing was made where nothing can be
                temporary.unlink()


@contextmanager
def write_errors(path: Path, size: int | None = None) -> Iterator[None]:
    """Raise what keeps the block from writing `path`, a full disk or a read-only folder, as a WriteError.

    Args:
        path: of the message.
        size: bytes that are needed, if known.

    Raises:
        WriteError: in place of any OSError, and of errors of safetensors that wrap one.
    """
    try:
        yield
    except VlfewError:
        raise
    except Exception as error:
        # Errors of safetensors wrap those of the system.
        wrapped = _RUST.search(str(error))
        if not isinstance(error, OSError) and wrapped is None:
            raise
        number = error.errno if isinstance(error, OSError) else int(wrapped[1]) if wrapped else None
        raise _write_error(path, number, str(error), size) from error


@contextmanager
def keeping(place: Path, kept: Callable[[], str]) -> Iterator[None]:
    """Add what is kept, and how to go on, to the WriteError of the block.

    Args:
        place: to name where another library writes and there is no space.
        kept: called after the error.

    Raises:
        WriteError: with `kept` at its end.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error, WriteError) and error.errno not in NO_SPACE:
            raise
        own = error if isinstance(error, WriteError) else _write_error(place, error.errno, "")
        raise WriteError(f"{own}; {kept()}") from error


def check_writable(path: Path, flag: str) -> None:
    """Raise before any work what would keep a file from being written after it.

    Args:
        path: of the file; missing folders would be made.
        flag: that names another place.

    Raises:
        WriteError: a folder that is read-only, or is a file.
    """
    if why := _obstacle(path):
        raise WriteError(f"{path} cannot be written: {why}; name another place with {flag}")


def _obstacle(path: Path) -> str:
    """Why the folder of `path` takes no files; "" where it does, or where that shows only in writing."""
    place = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not place.is_dir():
        return f"{place} is a file, not a folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} is read-only"


def _write_error(path: Path, number: int | None, message: str, size: int | None = None) -> WriteError:
    why = NO_SPACE.get(number or 0)
    if why is None:
        return WriteError(f"{path} cannot be written: {_obstacle(path) or message}")
    space = [] if size is None else [f"{_shown(size)} are needed"]
    if number == errno.ENOSPC:
        place = next(parent for parent in path.absolute().parents if os.path.isdir(parent))
        space.append(f"{_shown(shutil.disk_usage(place).free)} are free")
    why += f" ({', '.join(space)})" if space else ""
    return WriteError(f"{path} cannot be written: {why}; make space there")


def _shown(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` through `atomic_file`."""
    encoded = content.encode() if isinstance(content, str) else content
    with atomic_file(path, len(encoded)) as temporary:
        temporary.write_bytes(encoded)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    description: Mapping[str, Any] | None = None,
) -> None:
    """Write a safetensors file through `atomic_file`.

    Args:
        path: of the file.
        tensors: by name, on any device.
        metadata: of the file.
        description: written with the file's SHA-256 to the same name with `.json`; where there is no space for both,
            neither is replaced.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with ExitStack() as stack:  # left in reverse: the description is moved into place last
        described = (
            None if description is None else stack.enter_context(atomic_file(path.with_suffix(".json")))
        )
        size = sum(tensor.nbytes for tensor in contiguous.values())
        temporary = stack.enter_context(atomic_file(path, size))
        save_file(contiguous, temporary, metadata)
        if described is not None:
            content = json.dumps(
                {"sha256": sha256(temporary), **(description or {})}, indent=1, ensure_ascii=False
            )
            described.write_text(content + "\n", encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append a line to a file; where there is no space for all of it, none of it stays."""
    with write_errors(path):
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            with suppress(OSError):
                os.truncate(path, size)
            raise


def file_stem(name: str) -> str:
    """A valid file name made from one with slashes or colons: `hf:/x/pets` becomes `hf-x-pets`."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
