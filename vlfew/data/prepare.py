"""Put data in place: archives are unpacked safely, checked, and moved into place atomically."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, TypeAlias

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data import lfw_files
from vlfew.data.data_root import cache_dir, folder_name
from vlfew.data.image_files import hidden, list_files
from vlfew.data.loading import load_data
from vlfew.data.sources import att_faces, captions, flickr, folder, mini_imagenet, mnist, omniglot

MAX_BYTES = 200 * 2**30
MAX_FILES = 2_000_000
"""Archives that unpack to more are rejected."""


class Check(NamedTuple):
    """What a source requires of its folder.

    Attributes:
        check: raises DataError if the source cannot be loaded from a folder.
        tops: names of expected top-level folders; such a folder is not unwrapped if it is the only one.
    """

    check: Callable[[Path], Any]
    tops: Collection[str] = ()


def _loads(name: str) -> Callable[[Path], Any]:
    """Load the source without decoding images."""
    return lambda place: load_data(name, place, memory_limit_mb=0)


CHECKS = {
    "omniglot": Check(omniglot.check, omniglot.PARTS),
    "mini_imagenet": Check(mini_imagenet.check),
    "cifar_fs": Check(_loads("cifar_fs"), ("train", "test")),
    "fc100": Check(_loads("fc100"), ("train", "test")),
    "folder": Check(folder.check, ("train", "val", "valid", "validation", "test")),
    "captions": Check(captions.check),
    "flickr8k": Check(partial(flickr.check, "flickr8k")),
    "flickr30k": Check(partial(flickr.check, "flickr30k")),
    "lfw": Check(lfw_files.check, lfw_files.FOLDER_NAMES),
    "att_faces": Check(att_faces.check, [f"s{n}" for n in range(1, att_faces.PEOPLE + 1)]),
    "mnist": Check(mnist.check),
}


def prepare(name: str, source: Path, root: Path | None = None) -> Path:
    """Unpack an archive (zip, tar, tar.gz, tar.bz2, tar.xz) or copy a folder to where data are found.

    A folder that contains only one folder is unwrapped. Nothing is left behind on failure.

    Args:
        name: data source.
        source: archive or folder.
        root: folder to create; None is the place in the user's cache where `find_data` looks.

    Returns:
        The folder.

    Raises:
        DataError: unknown name; the folder exists; the archive is damaged, too large or would write outside its folder;
            the source cannot be loaded from its content.
    """
    check = _check(name)
    if not source.exists():
        raise DataError(f"{source}: no such archive or folder")
    with _staged(name, root) as (staging, target):
        if source.is_dir():
            if target.resolve().is_relative_to(source.resolve()):
                raise DataError(f"{target} is inside {source}, which cannot be copied into itself")
            _copy(source, staging)
        else:
            _unpack(source, staging)
        content = _unwrapped(staging, check.tops)
        try:
            check.check(content)
        except DataError as error:
            raise DataError(f"{source}: {str(error).replace(str(content), source.name)}") from None
        _move(content, target)
    return target


def download(name: str, root: Path | None = None) -> Path:
    """Download a data set that torchvision offers, after printing what, from where and how large.

    Raises:
        DataError: not available for download, no network, or unexpected content.
    """
    if name not in DOWNLOADS:
        raise DataError(f"{name!r} cannot be downloaded; use: vlfew data prepare {name} --from PATH")
    with _staged(name, root) as (staging, target):
        content = DOWNLOADS[name](staging)
        _check(name).check(content)
        _move(content, target)
    return target


@contextmanager
def _downloading(name: str, what: str, where: str, by_hand: str) -> Iterator[None]:
    """Print what is downloaded, and raise what to do by hand if it fails."""
    print(f"{name}: {what}, from {where}", file=sys.stderr)
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name}: cannot be downloaded from {where}: {_line(error)}; download {by_hand}"
        ) from None


def _download_omniglot(staging: Path) -> Path:
    from torchvision.datasets import Omniglot

    where = Omniglot.download_url_prefix
    what = (
        "images_background.zip and images_evaluation.zip, 16 MB, "
        f"without the official runs ({where}/one_shot_runs.zip)"
    )
    by_hand = "both archives by hand, then: vlfew data prepare omniglot --from FOLDER"
    with _downloading("omniglot", what, where, by_hand):
        for background in (True, False):
            Omniglot(staging, background=background, download=True)
    content: Path = staging / Omniglot.folder
    for part in omniglot.PARTS:
        # Keep only the archives, which torchvision has checked: 2 files instead of 32,460.
        shutil.rmtree(content / part, ignore_errors=True)
    return content


def _download_mnist(staging: Path) -> Path:
    from torchvision.datasets import MNIST

    by_hand = "the four files by hand, then: vlfew data prepare mnist --from FOLDER"
    with _downloading("mnist", "the four IDX files, 12 MB", " or ".join(MNIST.mirrors), by_hand):
        content = Path(MNIST(staging, download=True).raw_folder)
    for unpacked in content.glob("*-ubyte"):
        # Keep only the compressed files, which torchvision has checked.
        unpacked.unlink()
    return content


def _download_cifar100(staging: Path) -> Path:
    from torchvision.datasets import CIFAR100

    by_hand = "the archive by hand, then: vlfew data prepare cifar_fs --from ARCHIVE"
    with _downloading("cifar100", f"{CIFAR100.filename}, 169 MB", CIFAR100.url, by_hand):
        CIFAR100(staging, download=True)
    content: Path = staging / CIFAR100.base_folder
    return content


DOWNLOADS: dict[str, Callable[[Path], Path]] = {
    "omniglot": _download_omniglot,
    "mnist": _download_mnist,
    "cifar_fs": _download_cifar100,
    "fc100": _download_cifar100,
}


def _check(name: str) -> Check:
    if name not in CHECKS:
        raise DataError(f"data source {name!r} needs no preparing{did_you_mean(name, CHECKS)}")
    return CHECKS[name]


def _unwrapped(place: Path, tops: Collection[str]) -> Path:
    """The first folder inside that holds more than one other folder, or one that belongs at the top."""
    inside = [p for p in place.iterdir() if not hidden(p.name)]
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name not in tops:
        return _unwrapped(inside[0], tops)
    return place


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def _staged(name: str, root: Path | None) -> Iterator[tuple[Path, Path]]:
    """A temporary folder in the folder of the target, and the target."""
    target = (root or cache_dir() / "data" / folder_name(name)).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists; remove it first to prepare {name!r} again")
    staging = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{target}: cannot be created: {error.strerror}") from None
    try:
        yield staging, target
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(content: Path, target: Path) -> None:
    try:
        os.replace(content, target)
    except OSError as error:
        raise DataError(f"{target}: cannot be moved into place: {error.strerror}") from None


def _copy(source: Path, staging: Path) -> None:
    """Copy contents without modes: a read-only folder could not be moved or removed."""
    try:
        for file in list_files(source):
            with open(source / file.name, "rb") as content:
                _write(staging / file.name, content)
    except OSError as error:
        raise DataError(f"{source}: cannot be copied: {_line(error)}") from None


def _unpack(archive: Path, staging: Path) -> None:
    """Write the files of an archive, limited by the sizes that its members declare."""
    files, total, free = 0, 0, shutil.disk_usage(staging).free
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                sizes = [member.file_size for member in opened.infolist()]
            _check_size(archive, len(sizes), sum(sizes), free)  # known before any is written
            members = _zip_members(archive)
        elif tarfile.is_tarfile(archive):
            members = _tar_members(archive, staging)
        else:
            raise DataError(f"{archive}: neither a folder nor a readable zip or tar archive")
        for name, size, content in members:
            files, total = files + 1, total + size
            _check_size(archive, files, total, free)
            if content is None:  # an empty class folder must not disappear
                _inside(archive, name, staging).mkdir(parents=True, exist_ok=True)
                continue
            with content:
                _write(_inside(archive, name, staging), content)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError) as error:
        raise DataError(f"{archive}: damaged archive: {_line(error)}") from None
    except (OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: cannot be unpacked: {_line(error)}") from None


def _check_size(archive: Path, files: int, size: int, free: int) -> None:
    if files > MAX_FILES or size > MAX_BYTES:
        raise DataError(
            f"{archive}: unpacks to more than {MAX_FILES:,} files or {MAX_BYTES / 2**30:,.0f} GiB; "
            "unpack it yourself if that is intended"
        )
    if size > free:
        raise DataError(f"{archive}: larger than the {free / 2**30:,.1f} GiB of free disk space")


def _inside(archive: Path, member: str, staging: Path) -> Path:
    """The target path of a member; rejected if it would be outside."""
    if member.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", member):
        raise DataError(f"{archive}: rejected: member {member!r} has an absolute path")
    if "\0" in member:
        raise DataError(f"{archive}: rejected: member {member!r} has a NUL in its name")
    if ".." in re.split(r"[/\\]", member):
        raise DataError(f"{archive}: rejected: member {member!r} leads out of its folder")
    return staging / member


Member: TypeAlias = tuple[str, int, IO[bytes] | None]
"""Name, size and content of a file in an archive; a folder has no content."""


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{archive}: rejected: member {member.filename!r} is a link")
            content = None if member.is_dir() else opened.open(member)
            yield member.filename, member.file_size, content


def _tar_members(archive: Path, staging: Path) -> Iterator[Member]:
    """Links are never made: one to a file that came before is a copy of it, any other is rejected."""
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.issym() or member.islnk():
                base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
                linked = os.path.normpath(base / member.linkname)
                original = staging / linked
                if linked.startswith(("..", "/")) or not original.is_file():
                    raise DataError(
                        f"{archive}: rejected: member {member.name!r} is a link to {member.linkname!r}, "
                        "which is not an earlier file of the archive"
                    )
                if linked == os.path.normpath(member.name):
                    continue  # a link to itself is the file
                with open(original, "rb") as linked_content:
                    yield member.name, original.stat().st_size, linked_content
            elif member.isfile() or member.isdir():
                yield member.name, member.size, opened.extractfile(member)
            else:
                raise DataError(f"{archive}: rejected: member {member.name!r} is a device, not a file")
        # An uncompressed tar truncated between two members is readable, but lacks its end mark.
        if isinstance(opened.fileobj, io.BufferedReader) and archive.stat().st_size <= opened.offset:
            raise DataError(f"{archive}: damaged archive: it ends before its end mark")


def _write(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file, 2**20)
