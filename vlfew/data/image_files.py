"""List and read the files of a folder, a zip archive or an uncompressed tar archive, without unpacking."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from zipfile import BadZipFile, ZipFile

from vlfew.core.errors import DataError
from vlfew.core.plurals import first_names
from vlfew.data.image_names import is_image

_HIDDEN = re.compile(r"(^|/)\.")
_SYSTEM = re.compile(
    r"(^|/)(\._[^/]*|\.DS_Store|\.Spotlight-V100|\.Trash[^/]*|\.fseventsd|\.TemporaryItems|__MACOSX|Icon\r|@eaDir|"
    r"#recycle|\$RECYCLE\.BIN|System Volume Information|lost\+found|Thumbs\.db|desktop\.ini|\.directory|\.git|"
    r"\.ipynb_checkpoints)(/|$)",
    re.IGNORECASE,
)
"""What operating systems, network drives and tools store next to one's files, thumbnails among it."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters and bytes that are not UTF-8, which cannot be shown in a message."""


@dataclass(frozen=True)
class ByteRange:
    """Bytes `start .. start + size` of a file: a member of an uncompressed tar archive."""

    path: Path
    start: int
    size: int

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


@dataclass(frozen=True)
class DataFile:
    """A file in a folder or in an archive.

    Attributes:
        name: path relative to the folder or archive, with forward slashes.
        size: bytes, unpacked.
        stamp: changes with the content: CRC-32 in a zip archive, otherwise the times in nanoseconds of the last
            modification and of the last status change, those of a tar archive with the place in it.
        place: the folder or open zip archive that contains it, or its byte range of a tar archive.
    """

    name: str
    size: int
    stamp: tuple[int, ...]
    place: Path | ByteRange | ZipFile

    def read(self) -> bytes:
        if isinstance(self.place, ByteRange):
            return self.place.read()
        return (
            (self.place / self.name).read_bytes()
            if isinstance(self.place, Path)
            else self.place.read(self.name)
        )

    @property
    def container(self) -> str:
        """Absolute path of the folder or archive."""
        place = self.place
        path = (
            place.filename
            if isinstance(place, ZipFile)
            else place.path
            if isinstance(place, ByteRange)
            else place
        )
        return os.path.abspath(str(path))

    @classmethod
    def at(cls, folder: Path, name: str) -> DataFile:
        """The file of this name in a folder."""
        return cls(name, *_size_and_stamp(os.stat(folder / name)), folder)


def list_files(place: Path, hidden_files: list[str] | None = None) -> list[DataFile]:
    """All files of a folder, zip or uncompressed tar archive, by name, without hidden ones and system data.

    Links to folders are followed, each folder once. A broken link is a file that cannot be read.

    Args:
        place: the folder or archive.
        hidden_files: receives the names of hidden files (`a/.x`), and of hidden folders (`a/.x/`) for all within.

    Raises:
        DataError: not a folder or such an archive; a folder that cannot be read; a name with control characters or that
            is not UTF-8.
    """
    read = _in_folder if place.is_dir() else _in_tar if place.suffix == ".tar" else _in_zip
    out_of_sight: set[str] = set()
    files = read(place, out_of_sight)
    odd = sorted({f.name for f in files if _UNPRINTABLE.search(f.name)})
    if odd:
        raise DataError(
            f"{place}: names with control characters, or that are not UTF-8: {first_names([*map(repr, odd)])}; "
            "rename them"
        )
    if hidden_files is not None:
        hidden_files += sorted(name.encode("utf-8", "replace").decode() for name in out_of_sight)
    return sorted(files, key=lambda file: file.name)


def is_image_file(file: DataFile) -> bool:
    """Whether a file is an image: by its suffix or, where it has none, by its first bytes."""
    if is_image(file.name) or os.path.splitext(file.name)[1]:
        return is_image(file.name)
    from PIL import Image

    try:
        place = file.place
        Image.open(place / file.name if isinstance(place, Path) else io.BytesIO(file.read())).close()
    except Exception:  # whatever a decoder makes of other files
        return False
    return True


def digest(*values: object) -> str:
    """16 hex digits over the `repr` of plain values."""
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def hidden(name: str) -> bool:
    """Whether a file or folder is hidden or system data."""
    return _HIDDEN.search(name) is not None or system_data(name)


def system_data(name: str) -> bool:
    """Whether a file or folder is not the user's own, but of the operating system, a network drive or a tool."""
    return _SYSTEM.search(name) is not None


def _note_hidden(name: str, hidden_files: set[str]) -> None:
    """Adds a hidden file, or the hidden folder that it is in, unless it is system data."""
    found = _HIDDEN.search(name)
    if found is not None and not system_data(name):
        inside = name.find("/", found.end())
        hidden_files.add(name if inside < 0 else name[: inside + 1])


def _in_folder(folder: Path, hidden_files: set[str]) -> list[DataFile]:
    files: list[DataFile] = []
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        real = os.path.realpath(at)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # Plain strings: creating a `Path` for each of ten thousand files takes longer than the stat calls.
        base = "" if at == str(folder) else Path(at).relative_to(folder).as_posix() + "/"
        for name in filter(hidden, folders):
            if any(os.scandir(os.path.join(at, name))):
                _note_hidden(f"{base}{name}/", hidden_files)
        folders[:] = [name for name in folders if not hidden(name)]
        for name in names:
            if hidden(name):
                _note_hidden(base + name, hidden_files)
                continue
            try:
                status = os.stat(os.path.join(at, name))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    _raise_unreadable(error)
                files.append(DataFile(base + name, 0, (0,), folder))  # a broken or circular link
                continue
            if stat.S_ISREG(status.st_mode):
                files.append(DataFile(base + name, *_size_and_stamp(status), folder))
    return files


def _size_and_stamp(status: os.stat_result) -> tuple[int, tuple[int, int]]:
    return status.st_size, (status.st_mtime_ns, status.st_ctime_ns)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _in_zip(path: Path, hidden_files: set[str]) -> list[DataFile]:
    try:
        archive = ZipFile(path)
    except (BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a readable zip archive: {error}") from None
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        _note_hidden(member.filename, hidden_files)
    return [
        DataFile(member.filename, member.file_size, (member.CRC,), archive)
        for member in members
        if not hidden(member.filename)
    ]


def _in_tar(path: Path, hidden_files: set[str]) -> list[DataFile]:
    try:
        _, stamp = _size_and_stamp(os.stat(path))
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: not a readable tar archive: {error}") from None
    for member in members:
        _note_hidden(member.name, hidden_files)
    return [
        DataFile(m.name, m.size, (*stamp, m.offset_data), ByteRange(path, m.offset_data, m.size))
        for m in members
        if not hidden(m.name)
    ]
